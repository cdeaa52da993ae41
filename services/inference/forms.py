"""The form that a request's output is held to: its guide, its tools' calls, or both."""

from services.errors import InvalidArgument
from services.inference.conversation import ToolPlan
from services.inference.engine import Grammar, GrammarKind, Tag
from services.inference.registry import ServedModel
from services.inference.requests import GenerationRequest, Guide, GuideKind, Tool
from services.inference.toolcalls import ToolFormat

_KINDS = {kind: GrammarKind(kind.value) for kind in GuideKind}


async def compile_form(
    request: GenerationRequest, served: ServedModel, tools: ToolPlan
) -> object | None:
    """What goes into the request's sequences; None where output is free.

    Raises:
        InvalidArgument: the form is broken, or can't be combined with the rest of the request.
    """
    grammar = form_of(request, served, tools)
    if grammar is None:
        return None
    if request.sampling.ignore_eos:
        raise InvalidArgument(
            "'sampling.ignore_eos': output that has a form ends with it: leave one of them out.",
            field="sampling.ignore_eos",
        )
    return await served.loaded.engine.compile(grammar)


def form_of(request: GenerationRequest, served: ServedModel, tools: ToolPlan) -> Grammar | None:
    """The form of the whole output.

    A guide describes answers without calls: where a call must come, it does not matter.
    """
    guide = None if request.guide is None else _guide(request.guide)
    able = served.loaded.engine.info.capabilities
    strict = any(tool.strict for tool in tools.offered)
    if tools.reads is None or not able.json_schema:
        return guide
    if tools.forced:
        return _forced(tools.reads, tools.forced, tools.offered)
    if not (tools.required or strict or guide):
        return None
    tags = tuple(
        _tag(tool, position, *tools.reads.frame(tool.name))
        for position, tool in enumerate(tools.offered)
    )
    return Grammar(
        GrammarKind.TOOLS,
        field="tools",
        tags=tags,
        separator=tools.reads.separator,
        required=tools.required,
        several=not tools.single,
        trigger=_trigger(tools.reads, tags),
        text=None if tools.required else guide,
    )


def _guide(guide: Guide) -> Grammar:
    field = f"guide.{guide.kind.value}"
    return Grammar(_KINDS[guide.kind], guide.source, strict=guide.strict, field=field)


def _forced(reads: ToolFormat, name: str, offered: tuple[Tool, ...]) -> Grammar:
    """The rest of a call that the prompt has opened already."""
    position = next(place for place, tool in enumerate(offered) if tool.name == name)
    begin, end = reads.frame(name)
    tag = _tag(offered[position], position, begin.removeprefix(reads.opening(name)), end)
    return Grammar(GrammarKind.TOOLS, field="tools", tags=(tag,), required=True)


def _tag(tool: Tool, position: int, begin: str, end: str) -> Tag:
    schema = (tool.parameters_json or '{"type":"object"}') if tool.strict else ""
    return Tag(begin, end, schema, tool.strict, f"tools[{position}].parameters_json")


def _trigger(reads: ToolFormat, tags: tuple[Tag, ...]) -> str:
    """The mark that begins calls; empty where they have none."""
    begins = [mark for mark in reads.markers if all(tag.begin.startswith(mark) for tag in tags)]
    return max(begins, key=len, default="")
