from collections import defaultdict

from hypothesis import given
from hypothesis import strategies as st
from penstock.inference.internal.v1 import step_service_pb2 as pb

from services.inference.step_answers import PIECE_BYTES, SHARE_BYTES, AnswersOut

SIZES = st.sampled_from([0, 1, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 3 * PIECE_BYTES])


def messages(out: AnswersOut) -> list[pb.StepStreamResponse]:
    made: list[pb.StepStreamResponse] = []
    while out:
        response = pb.StepStreamResponse()
        out.fill(response.updates)
        made.append(response)
    return made


@given(sizes=st.lists(SIZES | st.integers(0, 700_000), max_size=12), dropped=st.integers(0, 12))
def test_pieces_add_up_and_messages_stay_small(sizes: list[int], dropped: int) -> None:
    answers = {id: bytes([id]) * size for id, size in enumerate(sizes)}
    out = AnswersOut()
    for id, data in answers.items():
        out.put(id, data)
    out.drop(dropped)
    got: dict[int, list[pb.StepUpdate]] = defaultdict(list)
    for message in messages(out):
        assert message.updates
        assert sum(len(u.piece) + len(u.answer) for u in message.updates) < (
            SHARE_BYTES + PIECE_BYTES
        )
        for update in message.updates:
            got[update.stream_id].append(update)
    answers.pop(dropped, None)
    assert set(got) == set(answers)
    for id, data in answers.items():
        kinds = [update.WhichOneof("update") for update in got[id]]
        assert kinds == ["piece"] * (len(kinds) - 1) + ["answer"]
        assert b"".join(u.piece + u.answer for u in got[id]) == data


def test_a_small_answer_does_not_wait_for_a_huge_one() -> None:
    out = AnswersOut()
    out.put(1, b"x" * 100 * SHARE_BYTES)
    out.put(2, b"small")
    first = pb.StepStreamResponse()
    out.fill(first.updates)
    assert (2, b"small") in [(update.stream_id, update.answer) for update in first.updates]


def test_nothing_is_left_after_clearing() -> None:
    out = AnswersOut()
    out.put(1, b"x")
    out.clear()
    assert not out
    assert messages(out) == []
