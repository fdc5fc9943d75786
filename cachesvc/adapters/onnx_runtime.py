"""onnxruntime, without its telemetry: import it from here and from nowhere else.

Since 1.29 its official builds report every process, session and model to Microsoft, on Linux too, and write a
device id below the home directory. The switch counts only when it is set before the library is loaded, and for
what the API's own switch would let through as well (its Privacy.md; onnxruntime pull request 29843).
"""

import os

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # noqa: TID251 - not a setting: nobody may turn it on

import onnxruntime  # after the switch

__all__ = ["onnxruntime"]
