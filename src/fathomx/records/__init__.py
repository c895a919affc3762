"""The files of runs: written whole or not at all, and read by the form that they must have."""

from fathomx.records.errors import DamagedFileError as DamagedFileError
from fathomx.records.errors import RunFolderError as RunFolderError
