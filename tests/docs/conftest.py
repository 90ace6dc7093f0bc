"""The projects are copied by the tests, and run where they are copied to."""

collect_ignore = ["projects"]
