"""Text models for a real Triton in tests."""

from __future__ import annotations

from pathlib import Path

from services.inference.engines.triton_export import export
from services.inference.engines.triton_ports import TENSORRT_LLM, VLLM
from services.tritonserver.export.options import ExportOptions
from services.tritonserver.export.sections import Layout, Port, config_text
from services.tritonserver.export.vendored import vendored
from tests.triton_server import TritonServer


def add_text_model(
    server: TritonServer, name: str, folder: Path, *, adapters: str = "", slots: int = 16
) -> None:
    """Exports a model's folder to a server: on the torch engine, by the vLLM backend's contract."""
    options = ExportOptions(
        name=name, weights=str(folder), dtype="float32", threads=1, max_batch_size=slots
    )
    export(folder, server.repository, "chat", options)
    if adapters:
        (server.repository / name / "1" / "multi_lora.json").write_text(adapters)


def add_tensorrt_llm(server: TritonServer, folder: Path) -> None:
    """Adds what a repository of TensorRT-LLM has, `tensorrt_llm` behind `tensorrt_llm_bls`: the
    first on the torch engine; the second, for text, is there to be found and never called."""
    said = {"weights": str(folder), "dtype": "float32", "threads": "1", "slots": "16"}
    inner = Layout(
        backend="python",
        max_batch_size=8,
        inputs=TENSORRT_LLM.inputs,
        outputs=TENSORRT_LLM.outputs,
        decoupled=True,
        parameters=said,
    )
    files = {f"1/{path}": text for path, text in vendored(_TOKENS).items()}
    config = config_text(inner, ExportOptions(name="tensorrt_llm"))
    server.add("tensorrt_llm", {"config.pbtxt": config, **files})
    outer = Layout(
        backend="python",
        inputs=[Port("text_input", "STRING", [1]), Port("max_tokens", "INT32", [1])],
        outputs=[Port("text_output", "STRING", [-1])],
        decoupled=True,
        parameters={"tensorrt_llm_model_name": "tensorrt_llm"},
    )
    config = config_text(outer, ExportOptions(name="tensorrt_llm_bls"))
    server.add("tensorrt_llm_bls", {"config.pbtxt": config, "1/model.py": _NEVER_CALLED})


_TOKENS = "services.inference.engines.triton_trtllm_model"
_NEVER_CALLED = """
class TritonPythonModel:
    def execute(self, requests):
        raise RuntimeError("text was sent")
"""


def add_ticker(server: TritonServer, name: str = "ticker", token_s: float = 0.005) -> None:
    """Adds a model that speaks the vLLM backend's contract and has no weights: a token every few
    milliseconds, as many as are asked for. It logs each request, and whether it was cancelled."""
    layout = Layout(backend="python", inputs=VLLM.inputs, outputs=VLLM.outputs, decoupled=True)
    config = config_text(layout, ExportOptions(name=name))
    model = _TICKER.replace("TOKEN_S", str(token_s))
    server.add(name, {"config.pbtxt": config, "1/model.py": model})


_TICKER = """
import json, threading, time
import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        for request in requests:
            given = pb_utils.get_input_tensor_by_name(request, "sampling_parameters").as_numpy()[0]
            facts = request.request_id(), request.timeout(), request.parameters()
            pb_utils.Logger.log_info("begins: %s %s %s" % facts)
            work = request.request_id(), request.get_response_sender(), json.loads(given)
            threading.Thread(target=self.tick, args=work).start()

    def tick(self, name, sender, given):
        final = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL
        if "lora_name" in given:
            error = pb_utils.TritonError("LoRA feature is not enabled.")
            sender.send(pb_utils.InferenceResponse([], error), final)
            return
        count = given["max_tokens"]
        for number in range(count):
            time.sleep(TOKEN_S)
            if sender.is_cancelled():
                pb_utils.Logger.log_info("cancelled: %s" % name)
                error = pb_utils.TritonError("Request was cancelled")
                sender.send(pb_utils.InferenceResponse([], error), final)
                return
            token = {str(70 + number % 20): {"logprob": -1.0, "rank": 1, "decoded_token": "?"}}
            last = number == count - 1
            values = {
                "text_output": [b"?"],
                "finish_reason": [b"length" if last else b"None"],
                "logprobs": [json.dumps([token]).encode()],
            }
            tensors = [pb_utils.Tensor(k, np.array(v, np.object_)) for k, v in values.items()]
            sender.send(pb_utils.InferenceResponse(tensors), final if last else 0)
        pb_utils.Logger.log_info("ends: %s" % name)
"""
