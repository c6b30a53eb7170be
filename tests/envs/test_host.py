import numpy as np
import torch

from cfworld.envs.host import pack, unpack


def test_tensors_of_all_types_come_over_in_one_copy_as_they_were() -> None:
    tensors = [
        torch.tensor([3, -1, 4]),
        torch.tensor([0.5, -1.5, 2.0]),
        torch.arange(6, dtype=torch.float32).reshape(2, 3).T,
        torch.tensor([True, False, True]),
        torch.arange(5, dtype=torch.uint8).reshape(1, 5),
        torch.tensor([1.0, 2.0], dtype=torch.float64),
    ]
    packed = pack(tensors)
    assert packed.numel() == 3 * 8 + 3 * 4 + 6 * 4 + 3 + 5 + 2 * 8
    for array, tensor in zip(unpack(packed.numpy(), tensors), tensors, strict=True):
        assert array.dtype == tensor.numpy().dtype
        assert array.flags.aligned
        assert np.array_equal(array, tensor.numpy())
