from .bpe import BPE as BPE
from .vocabulary import DIGITS as DIGITS
from .vocabulary import PADDING as PADDING
from .vocabulary import START as START
from .vocabulary import Vocabulary as Vocabulary
