"""The tokenizer of `wan22-mini`: a small SentencePiece-like Unigram with byte fallback, made from a word list.

Built, not trained, so that it is the same every time: frequent words get better scores, single letters worse ones, and
whatever is left (Chinese, emoji) falls back to its UTF-8 bytes. Special tokens are T5's: pad 0, eos 1, unk 2.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

from tokenizers import Tokenizer
from tokenizers.decoders import ByteFallback, Fuse, Metaspace, Sequence
from tokenizers.models import Unigram
from tokenizers.pre_tokenizers import Metaspace as MetaspaceSplit
from tokenizers.processors import TemplateProcessing

_WORD_LIST = """
the a of and in to on with at over under from into through is are it its his her their by for as then while before
after slowly quickly gently suddenly still moves move moving turns turn turning walks walk walking runs run running
flies fly flying falls fall falling rises rise rising stands stand standing sits sit sitting looks look looking smiles
opens closes shines glows burns drifts floats swims jumps dances plays holds carries reaches passes crosses appears
camera pans pan tilts zooms zoom tracks shot close up wide angle medium view scene cut hard cinematic film light lights
shadow dark bright soft warm cold colour color red orange yellow green blue purple pink white black grey gray golden
silver sky cloud clouds sun moon star stars rain snow wind storm fog mist fire smoke water sea ocean river lake harbour
harbor boat boats ship anchor mast sail wave waves beach sand rock rocks mountain mountains hill valley forest tree
trees leaf leaves flower flowers grass field road street city town house houses window door wall roof room table chair
lamp book cup man woman boy girl child children people person face eyes hair hand hands dog cat horse bird birds gull
fish circle square triangle shape background left right up down forward back away toward around across one two three
four many few small large big tall long short old young new morning evening night day dawn dusk summer winter spring
autumn rest rests lands land high low near far quiet calm busy empty full first last same next slow fast
"""
WORDS = _WORD_LIST.split()
CHARACTERS = "".join(chr(code) for code in range(33, 127)) + "▁"


_CAPTION_WORDS = """
spins spinning bounces slate sand dark clay pale plain striped dotted cloudy place stands makes big
left, right, up, down, background, background. zooms in, night, day, cut, still.
"""
TRAINED_WORDS = WORDS + _CAPTION_WORDS.split()
"""What the trained model knows: the words above, and those of the captions that it was trained on."""


def vocabulary(words: list[str] = WORDS) -> list[tuple[str, float]]:
    """(piece, log probability) in id order, of `words` from the most frequent to the least."""
    pieces = {"<pad>": 0.0, "</s>": 0.0, "<unk>": 0.0}
    pieces |= {f"<0x{byte:02X}>": -16.0 for byte in range(256)}
    pieces |= dict.fromkeys(CHARACTERS, -12.0)
    for rank, word in enumerate(dict.fromkeys(words), start=1):
        pieces[f"▁{word}"] = -6.0 - math.log(rank)
        # A word found inside another costs more, so that whole words win where they stand alone.
        pieces.setdefault(word, -8.0 - math.log(rank))
    return list(pieces.items())


VOCABULARY = len(vocabulary())


def write_tokenizer(folder: Path, words: list[str] = WORDS) -> None:
    """Write `tokenizer.json` and `tokenizer_config.json` for transformers' AutoTokenizer."""
    tokenizer = Tokenizer(Unigram(vocabulary(words), unk_id=2, byte_fallback=True))
    tokenizer.pre_tokenizer = MetaspaceSplit()
    tokenizer.decoder = Sequence([ByteFallback(), Metaspace(), Fuse()])
    tokenizer.post_processor = TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    tokenizer.add_special_tokens(["<pad>", "</s>", "<unk>"])
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "pad_token": "<pad>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
        "model_max_length": 512,
        "clean_up_tokenization_spaces": False,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
