"""Configurations: YAML files and ``key=value`` overrides, checked against the constructors they are given to.

The signature of a class is the schema of its block: its annotations are what is allowed, its defaults are filled in,
its docstring is the help. See `ibd.config.schema.Config` for the top level.
"""

from ibd.config.building import build, check, check_options
from ibd.config.describing import describe
from ibd.config.loading import load_config, load_saved_config, plain_values
from ibd.config.plain import save_config, to_plain
from ibd.config.schema import Block

__all__ = [
    "Block",
    "build",
    "check",
    "check_options",
    "describe",
    "load_config",
    "load_saved_config",
    "plain_values",
    "save_config",
    "to_plain",
]
