"""The configuration folders of one's own (`poolbench.cli.folders`) for Hydra, wherever it composes."""

from __future__ import annotations

from hydra.core.config_search_path import ConfigSearchPath
from hydra.plugins.search_path_plugin import SearchPathPlugin

from poolbench.cli.folders import conf_dir, further


class Folders(SearchPathPlugin):
    """Adds them behind PoolBench's own folder, and to no other application of Hydra."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        if any(element.path == str(conf_dir()) for element in search_path.get_path()):
            for folder in further():
                search_path.append("poolbench", f"file://{folder}")
