"""Small data sets, split and standardized, for training and for tests.

A `Dataset` is three `Part`s (train, validation, test) of plain numpy arrays that fit in memory,
checked once on construction so that no later step has to check them again. `load` gives one of the
named sets (`names` lists them); `Dataset(...)` makes one from your own arrays. `Dataset.images` and
`Dataset.flat` give the same data as images for convolutions or as vectors for dense layers, and
`CropAndFlip` varies training images.

`descriptions` says what each of the named sets is, and `load` where it comes from.

`split` divides arrays of your own; a `Stream` is read while it is trained on, such as from a
memory map larger than memory or by Grain (`Rows` says how rows are read); `images` reads a folder
of images, one folder per class, `imagenet` one that is larger than memory, `table` a CSV or parquet
file, `text` any text file as a `Text`, `read_idx` any file of the format of MNIST as an array.

```python
digits = fx.data.load("digits")
x, y = digits.train
x.shape, y.shape, digits.image_shape    # ((1257, 64), (1257,), (8, 8))
```
"""

from fathomx.data._adapted import adapted
from fathomx.data._augmentation import CropAndFlip
from fathomx.data._class_weights import class_weights
from fathomx.data._dataset import Dataset
from fathomx.data._files import DataError
from fathomx.data._folder import images
from fathomx.data._idx import read_idx
from fathomx.data._imagenet import ImageStream, imagenet
from fathomx.data._inputs import Inputs, read_inputs
from fathomx.data._named import descriptions, load, names, texts, whereabouts
from fathomx.data._parts import Part
from fathomx.data._preparation import Preparation
from fathomx.data._sources import Rows
from fathomx.data._split import split
from fathomx.data._standardized import Standardization, standardized
from fathomx.data._stream import Stream
from fathomx.data._table_files import TASKS, table
from fathomx.data._text import Text, text
from fathomx.data._tokens import Subwords

__all__ = [
    "TASKS",
    "CropAndFlip",
    "DataError",
    "Dataset",
    "ImageStream",
    "Inputs",
    "Part",
    "Preparation",
    "Rows",
    "Standardization",
    "Stream",
    "Subwords",
    "Text",
    "adapted",
    "class_weights",
    "descriptions",
    "imagenet",
    "images",
    "load",
    "names",
    "read_idx",
    "read_inputs",
    "split",
    "standardized",
    "table",
    "text",
    "texts",
    "whereabouts",
]
