"""Scenarios with tritonclient, over HTTP and gRPC.

`python triton_session.py HTTP_ADDRESS GRPC_ADDRESS KEY`, in the client's own environment, runs all
of them against the models `linear`, `pair` and `echo-arrays`; a failed assertion is a failed test.
"""

import sys
from typing import Any

import numpy as np
import tritonclient.grpc
import tritonclient.http
from tritonclient.utils import InferenceServerException


class Session:
    """A client, and the module that it is of."""

    def __init__(self, module: Any, address: str, key: str) -> None:
        self.module, self.key = module, key
        self.client = module.InferenceServerClient(address)

    @property
    def headers(self) -> dict[str, str]:
        """New ones each time: the client writes into what it is given."""
        return {"authorization": f"Bearer {self.key}"} if self.key else {}

    def given(self, name: str, array: Any, **more: Any) -> Any:
        given = self.module.InferInput(name, list(array.shape), "FP32")
        given.set_data_from_numpy(array, **more)
        return given

    def infer(self, model: str, *inputs: Any, **more: Any) -> Any:
        return self.client.infer(model, list(inputs), headers=self.headers, **more)

    def refused(self, model: str, *inputs: Any, **more: Any) -> InferenceServerException:
        try:
            self.infer(model, *inputs, **more)
        except InferenceServerException as error:
            return error
        raise AssertionError("it was not refused")


ROWS = np.array([[1, 1, 1], [0, 1, 2]], np.float32)
EXPECTED = np.array([[6, 9], [10, 13]], np.float32)


def serves(session: Session) -> None:
    client, headers = session.client, session.headers
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("linear", headers=headers)
    assert client.is_model_ready("linear", "1", headers=headers)
    assert not client.is_model_ready("linear", "9", headers=headers)
    assert not client.is_model_ready("nobody", headers=headers)


def computes(session: Session) -> None:
    answer = session.infer("linear", session.given("x", ROWS), request_id="mine")
    assert (answer.as_numpy("y") == EXPECTED).all()
    assert answer.as_numpy("nothing") is None
    wanted = [session.module.InferRequestedOutput("y")]
    answer = session.infer("linear", session.given("x", ROWS), outputs=wanted, model_version="1")
    assert (answer.as_numpy("y") == EXPECTED).all()
    running = session.client.async_infer
    if session.module is tritonclient.http:
        later = running("linear", [session.given("x", ROWS)], headers=session.headers)
        assert (later.get_result().as_numpy("y") == EXPECTED).all()


def computes_with_two(session: Session) -> None:
    a, b = np.array([1, 2], np.float32), np.array([3, 4], np.float32)
    wanted = [session.module.InferRequestedOutput("product")]
    answer = session.infer("pair", session.given("b", b), session.given("a", a), outputs=wanted)
    assert answer.as_numpy("product").tolist() == [3, 8]
    assert answer.as_numpy("sum") is None


def any_shape(session: Session) -> None:
    array = np.arange(24, dtype=np.float32).reshape(2, 1, 3, 4)
    answer = session.infer("echo-arrays", session.given("input", array), timeout=20_000_000)
    assert (answer.as_numpy("output") == array).all()
    nothing = np.zeros((0, 5), np.float32)
    answer = session.infer("echo-arrays", session.given("input", nothing))
    assert answer.as_numpy("output").shape == (0, 5)


def json_and_compression(session: Session) -> None:
    if session.module is not tritonclient.http:
        zipped = session.infer("linear", session.given("x", ROWS), compression_algorithm="gzip")
        assert (zipped.as_numpy("y") == EXPECTED).all()
        return
    given = session.given("x", ROWS, binary_data=False)
    for binary in (True, False):
        wanted = [tritonclient.http.InferRequestedOutput("y", binary_data=binary)]
        answer = session.infer("linear", given, outputs=wanted)
        assert (answer.as_numpy("y") == EXPECTED).all()
        assert ("data" in answer.get_output("y")) != binary
    for algorithm in ("gzip", "deflate"):
        answer = session.infer(
            "linear",
            session.given("x", ROWS),
            request_compression_algorithm=algorithm,
            response_compression_algorithm=algorithm,
        )
        assert (answer.as_numpy("y") == EXPECTED).all()


def refusals(session: Session) -> None:
    over_http = session.module is tritonclient.http
    wrong = session.refused("linear", session.given("x", ROWS[:, :2].copy()))
    assert "inputs[0].shape" in wrong.message()
    assert wrong.status() == ("400" if over_http else "StatusCode.INVALID_ARGUMENT")
    lost = session.refused("nobody", session.given("x", ROWS))
    assert lost.status() == ("404" if over_http else "StatusCode.NOT_FOUND")
    shared = session.module.InferInput("x", [2, 3], "FP32")
    shared.set_shared_memory("region", 24)
    assert "no shared memory" in session.refused("linear", shared).message()
    session.key = ""
    nobody = session.refused("linear", session.given("x", ROWS))
    assert nobody.status() == ("401" if over_http else "StatusCode.UNAUTHENTICATED")


def main() -> None:
    over_http, over_grpc, key = sys.argv[1:]
    for module, address in ((tritonclient.http, over_http), (tritonclient.grpc, over_grpc)):
        session = Session(module, address, key)
        for scenario in (
            serves,
            computes,
            computes_with_two,
            any_shape,
            json_and_compression,
            refusals,
        ):
            scenario(session)
            print("ok", module.__name__, scenario.__name__)
        session.client.close()


if __name__ == "__main__":
    main()
