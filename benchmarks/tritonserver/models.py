"""Models for the benchmark: they do next to nothing, so that calls are what costs."""

_ECHO = """
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        return [
            pb_utils.InferenceResponse(
                [pb_utils.Tensor("y", pb_utils.get_input_tensor_by_name(one, "x").as_numpy())]
            )
            for one in requests
        ]
"""
_TOKENS = """
import json
import threading

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        for one in requests:
            given = pb_utils.get_input_tensor_by_name(one, "sampling_parameters").as_numpy()[0]
            work = one.get_response_sender(), json.loads(given)
            threading.Thread(target=self.tell, args=work).start()

    def tell(self, sender, given):
        count = 0 if "lora_name" in given else given["max_tokens"]
        for number in range(count):
            token = {str(70 + number % 20): {"logprob": -1.0, "rank": 1, "decoded_token": "?"}}
            values = {
                "text_output": [b"?"],
                "finish_reason": [b"None"],
                "logprobs": [json.dumps([token]).encode()],
            }
            tensors = [pb_utils.Tensor(k, np.array(v, np.object_)) for k, v in values.items()]
            sender.send(pb_utils.InferenceResponse(tensors))
        sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
"""

ECHO = {
    "config.pbtxt": """
backend: "python"
max_batch_size: 0
input [{name: "x" data_type: TYPE_FP32 dims: [-1]}]
output [{name: "y" data_type: TYPE_FP32 dims: [-1]}]
""",
    "1/model.py": _ECHO,
}
"""Gives back what it gets."""


def tokens(config: str) -> dict[str, str]:
    """Speaks the vLLM backend's contract, and tells as many tokens as are asked for."""
    return {"config.pbtxt": config, "1/model.py": _TOKENS}
