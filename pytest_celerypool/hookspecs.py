"""What other plugins may extend."""

from __future__ import annotations

from collections.abc import Sequence

import pytest


class Hooks:
    """The hooks of this plugin, which others implement."""

    @pytest.hookspec
    def pytest_celerypool_detectors(self, config: pytest.Config) -> Sequence[str]:  # type: ignore[empty-body]
        """Return detectors of your own, each as ``"package.module:Class"``.

        A detector is a subclass of :class:`pytest_celerypool.agent.detectors.Detector`, in a module that pytest's
        process and a worker can import. It is called once a run, before the first test.

        :param config: pytest's configuration.
        """
