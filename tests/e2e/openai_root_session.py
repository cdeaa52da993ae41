"""openai-python with its base URL at the root, run by the client's own environment.

`python openai_root_session.py URL KEY`; a failed assertion is a failed test.
"""

import sys
from collections.abc import Callable

import openai

MODEL = "penstock-starter"
EMBEDDER = "all-minilm-l6-v2"
HELLO = [{"role": "user", "content": "Hello!"}]


def chats(client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(model=MODEL, messages=HELLO, temperature=0)
    assert whole.choices[0].message.content
    assert whole.choices[0].finish_reason in {"stop", "length"}
    chunks = list(
        client.chat.completions.create(model=MODEL, messages=HELLO, temperature=0, stream=True)
    )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert text == whole.choices[0].message.content
    # The SDK insists on a model, the route doesn't.
    bare = client.post("/chat/completions", body={"messages": HELLO}, cast_to=dict[str, object])
    assert bare["model"] == MODEL


def vectors(client: openai.OpenAI) -> None:
    # The SDK asks for base64 by itself.
    found = client.embeddings.create(model=EMBEDDER, input=["a", "b"])
    assert [item.index for item in found.data] == [0, 1]
    assert len(found.data[0].embedding) == 384
    numbers = client.embeddings.create(model=EMBEDDER, input="a", encoding_format="float")
    pairs = zip(numbers.data[0].embedding, found.data[0].embedding, strict=True)
    assert all(abs(one - other) < 1e-6 for one, other in pairs)


def errors(client: openai.OpenAI) -> None:
    unknown = refusal(
        openai.NotFoundError,
        lambda: client.chat.completions.create(model="nobody", messages=HELLO),
    )
    assert unknown.code == "model_not_found"
    assert "nobody" in str(unknown)
    empty = refusal(
        openai.BadRequestError, lambda: client.embeddings.create(model=EMBEDDER, input="")
    )
    assert empty.code == "invalid_request"


def refusal(
    expected: type[openai.APIStatusError], act: Callable[[], object]
) -> openai.APIStatusError:
    try:
        act()
    except expected as error:
        return error
    raise AssertionError(f"no {expected.__name__}")


if __name__ == "__main__":
    url, key = sys.argv[1:]
    for scenario in (chats, vectors, errors):
        scenario(openai.OpenAI(base_url=url, api_key=key, max_retries=0, timeout=60))
        print("ok", scenario.__name__)
