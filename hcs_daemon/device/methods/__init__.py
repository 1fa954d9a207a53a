"""Where the model looks: the methods that make maps, behind one small interface.

Each answers a `Question` with a map of the contrast in logits. Integrated and expected gradients promise a map that
sums to the change from the references to the site; Grad-CAM and occlusion promise no sum.
"""

from hcs_daemon.device.methods.expected_gradients import ExpectedGradients
from hcs_daemon.device.methods.grad_cam import GradCam
from hcs_daemon.device.methods.integrated_gradients import IntegratedGradients
from hcs_daemon.device.methods.method import Method, Pixel, relative_error
from hcs_daemon.device.methods.occlusion import Occlusion

__all__ = [
    "METHODS",
    "ExpectedGradients",
    "GradCam",
    "IntegratedGradients",
    "Method",
    "Occlusion",
    "Pixel",
    "relative_error",
]

METHODS: dict[str, Method] = {
    "integrated_gradients": IntegratedGradients(),
    "expected_gradients": ExpectedGradients(),
    "grad_cam": GradCam(),
    "occlusion": Occlusion(),
}
"""By the settings' name. `auto` is expected gradients: every package that explains has references."""
