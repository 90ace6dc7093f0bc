"""Keep pytest from collecting the projects beside the tests that run them."""

collect_ignore_glob = ["*/*"]
