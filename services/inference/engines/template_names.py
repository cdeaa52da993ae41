"""Recognises the family of a chat template."""

_MARKS: tuple[tuple[str, tuple[str, ...]], ...] = (
    # The first whose texts all occur counts: the more particular stand before the more general.
    ("deepseek-r1", ("<｜Assistant｜>", "</think>")),
    ("deepseek-v3", ("<｜Assistant｜>",)),
    ("deepseek-v2", ("Assistant: ", "<｜end▁of▁sentence｜>")),
    ("deepseek-v2", ("'User: '", "'Assistant:'")),
    ("bitnet", ("<|eot_id|>", "capitalize")),
    ("llama3 chat", ("<|start_header_id|>",)),
    ("qwen3", ("<|im_start|>", "enable_thinking")),
    ("phi-4", ("<|im_start|>", "<|im_sep|>")),
    ("chatml", ("<|im_start|>",)),
    ("phi-4-mini", ("<|tool|>", "<|end|>")),
    ("phi-3.5", ("<|system|>", "<|end|>", "message['content']")),
    ("phi-3", ("<|end|>", "<|user|>")),
    ("phi-3", ("<|end|>", "<|assistant|>")),
    ("zephyr", ("<|user|>", "eos_token")),
    ("gemma", ("<start_of_turn>",)),
    ("llama chat", ("[INST]", "<<SYS>>")),
    ("mistral chat", ("[INST]", "[AVAILABLE_TOOLS]")),
    ("mistral instruct", ("[INST]",)),
    ("alpaca", ("### Instruction",)),
    ("vicuna", ("USER:", "ASSISTANT:")),
    ("phi", ("Instruct:", "Output:")),
)

FAMILIES = frozenset(name for name, _ in _MARKS)


def template_family(template: str) -> str:
    """Name of a Jinja template's family, such as `chatml`; empty where it is unknown."""
    for name, marks in _MARKS:
        if all(mark in template for mark in marks):
            return name
    return ""
