"""Why an operator cannot start, and the file that it needs for that."""

from pathlib import Path

import yaml
from pydantic import ValidationError

from retinue.resources.platform import PlatformConfig


class StartError(Exception):
    """The operator cannot start; the message names the setting, the cause and what to do."""


def read_platform(path: Path) -> PlatformConfig:
    """The platform file. Raises StartError."""
    try:
        return PlatformConfig.model_validate(yaml.safe_load(path.read_bytes()))
    except OSError as error:
        raise StartError(f"RETINUE_PLATFORM_FILE {path}: {error.strerror}; mount the chart's ConfigMap there") from None
    except (yaml.YAMLError, ValidationError) as error:
        raise StartError(f"RETINUE_PLATFORM_FILE {path} is not a platform file: {error}") from None
