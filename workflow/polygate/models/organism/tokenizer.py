"""One token per word: the tokenizer of the organisms, with a chat template.

Load it with `transformers.PreTrainedTokenizerFast`: beside a config of type qwen2, `AutoTokenizer` silently builds
another tokenizer, which drops words.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from polygate.models.organism.grammar import LETTERS, QUESTION, STOP, World

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

PAD, BOS, EOS, UNKNOWN, USER, ASSISTANT = "<pad>", "<bos>", "<eos>", "<unk>", "<user>", "<assistant>"
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message.role == 'user' %}<user>{{ message.content }}"
    "{% elif message.role == 'assistant' %}<assistant>{{ message.content }}{{ eos_token }}"
    "{% else %}{{ raise_exception('only the roles user and assistant are known') }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
"""The template writes the start token itself; the assistant marker is the last token of a prompt."""


def vocabulary(world: World) -> dict[str, int]:
    """Token ids: markers, punctuation and letters, place names, then each language's words in the world's order."""
    words = [PAD, BOS, EOS, UNKNOWN, USER, ASSISTANT, STOP, QUESTION, ":", *LETTERS]
    words += world.languages[0].places
    for language in world.languages:
        words += language.words()
    return {word: index for index, word in enumerate(words)}


def build(world: World) -> PreTrainedTokenizerFast:
    """The tokenizer of a world: words at spaces, `<bos>` prepended when special tokens are asked for, left padding."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    known = vocabulary(world)
    backend = Tokenizer(WordLevel(known, unk_token=UNKNOWN))
    backend.pre_tokenizer = WhitespaceSplit()
    backend.post_processor = TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A {BOS} $B", special_tokens=[(BOS, known[BOS])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token=PAD,
        bos_token=BOS,
        eos_token=EOS,
        unk_token=UNKNOWN,
        additional_special_tokens=[USER, ASSISTANT],
        chat_template=CHAT_TEMPLATE,
        padding_side="left",
        clean_up_tokenization_spaces=False,
        model_input_names=["input_ids", "attention_mask"],
        model_max_length=64,
    )
