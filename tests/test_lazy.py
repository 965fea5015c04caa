import subprocess
import sys

import pytest

LATE = """
import torch, compressai, glc_toolkit.registry
assert not hasattr(compressai.datasets, "nonsense")
assert compressai.datasets.ImageFolder.__module__ == "compressai.datasets.image"
from compressai.datasets import *
assert Vimeo90kDataset and compressai.datasets.pointcloud
import scipy.stats
from scipy.stats import rankdata
assert scipy.stats.norm.ppf(0.5) == 0
q = glc_toolkit.registry.build("quantizer", {"name": "residual_vq"}, channels=8).eval()
assert q.lookup(q(torch.ones(1, 8, 2, 2)).indices).shape == (1, 8, 2, 2)
import einx
assert einx.where("a, a b, -> a b", torch.ones(2) > 0, torch.ones(2, 3), 0.0).sum() == 6
from compressai.transforms import RGB2YCbCr, NormalizeScaleV2
"""
TABLE = """
import compressai.registry, torch_geometric, torchvision
T = compressai.registry.TRANSFORMS
assert T["Compose"] is torch_geometric.transforms.Compose and T["Normalize"] is torchvision.transforms.Normalize
@compressai.registry.register_transform("mine")
class Mine: pass
assert T["mine"] is Mine and "mine" in dict(T) and "ToTensor" in set(T) and "nonsense" not in T
"""


@pytest.mark.parametrize("code", [LATE, TABLE], ids=["late", "table"])
def test_what_was_left_for_later_is_there(code):
    done = subprocess.run([sys.executable, "-c", f"import glc_toolkit.models\n{code}"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_finder_is_there_once():
    from glc_toolkit import lazy

    lazy.install()
    assert sum(isinstance(finder, lazy.Finder) for finder in sys.meta_path) == 1
