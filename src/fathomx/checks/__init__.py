"""The gate for arguments: what is right comes out in one form, what is wrong as one sentence.

Every check takes the name of the argument and its value, and returns the value to go on with. A
wrong kind of thing is a `TypeError`, a wrong value a `ValueError`; the sentence says what was asked
for, what was given, and where it is not obvious what to do. What is only known inside of a
compiled function passes: nothing can be raised there.
"""

from fathomx.checks.arrays import DType as DType
from fathomx.checks.arrays import array as array
from fathomx.checks.arrays import array_or_keys as array_or_keys
from fathomx.checks.arrays import dtype as dtype
from fathomx.checks.arrays import integers as integers
from fathomx.checks.arrays import is_traced as is_traced
from fathomx.checks.arrays import key as key
from fathomx.checks.arrays import keys as keys
from fathomx.checks.arrays import values as values
from fathomx.checks.gate import example as example
from fathomx.checks.gate import gate as gate
from fathomx.checks.gate import open_gate as open_gate
from fathomx.checks.kinds import Function as Function
from fathomx.checks.kinds import Name as Name
from fathomx.checks.kinds import OfOne as OfOne
from fathomx.checks.kinds import OfTwo as OfTwo
from fathomx.checks.kinds import Truth as Truth
from fathomx.checks.kinds import function as function
from fathomx.checks.kinds import instance as instance
from fathomx.checks.kinds import items as items
from fathomx.checks.kinds import mapping as mapping
from fathomx.checks.kinds import path as path
from fathomx.checks.kinds import truth as truth
from fathomx.checks.kinds import word as word
from fathomx.checks.names import choice as choice
from fathomx.checks.names import near as near
from fathomx.checks.names import unknown as unknown
from fathomx.checks.numbers import Bytes as Bytes
from fathomx.checks.numbers import Count as Count
from fathomx.checks.numbers import CountOrZero as CountOrZero
from fathomx.checks.numbers import NotNegative as NotNegative
from fathomx.checks.numbers import PartOfOne as PartOfOne
from fathomx.checks.numbers import Positive as Positive
from fathomx.checks.numbers import Seed as Seed
from fathomx.checks.numbers import Shape as Shape
from fathomx.checks.numbers import Sizes as Sizes
from fathomx.checks.numbers import count as count
from fathomx.checks.numbers import number as number
from fathomx.checks.numbers import shape as shape
from fathomx.checks.optimizers import Optimizer as Optimizer
from fathomx.checks.optimizers import optimizer as optimizer
from fathomx.checks.shown import shown as shown
from fathomx.checks.warn import warn as warn
