"""What is held of the card's memory."""

import pytest
import torch

from hcs_daemon.device.memory import allocated_bytes


def test_without_a_card_in_use_nothing_is_held() -> None:
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call] # torch leaves it without types
        pytest.skip("a card is in use here")
    assert allocated_bytes() == 0


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no card")
def test_what_a_tensor_takes_on_the_card_is_seen() -> None:
    before = allocated_bytes()
    tensor = torch.zeros(1 << 20, dtype=torch.uint8, device="cuda")
    assert allocated_bytes() - before >= tensor.nbytes
    del tensor
    assert allocated_bytes() == before
