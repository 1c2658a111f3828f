"""Tracing: every spelling of ReLU is a site, BN folds exactly, what cannot be converted is refused by name."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from msat.errors import UnsupportedNetwork
from msat.network import MaxPool, Relu, pool_before_neuron
from msat.tracing import trace
from tests.conftest import settle_norms


class Spellings(nn.Module):
    """Each ReLU of torch once, and one module called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.ModuleList(nn.Linear(4, 4) for _ in range(9))
        self.relu, self.relu6 = nn.ReLU(), nn.ReLU6(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.fc[0](x))
        x = self.relu(self.fc[1](x))
        x = F.relu(self.fc[2](x))
        x = torch.relu(self.fc[3](x))
        x = self.fc[4](x).relu()
        x = self.fc[5](x).relu_()
        x = F.relu(self.fc[6](x), inplace=True)
        x = F.relu6(self.relu6(self.fc[7](x)))
        x = x.clamp(min=0)
        return self.fc[8](x)


def test_every_spelling_is_its_own_site() -> None:
    model, x = Spellings(), torch.randn(3, 4)
    network = trace(model, x)
    names = [network.stages[i].name for i in network.sites]
    assert len(names) == len(set(names)) == 10
    assert "relu#2" in names
    assert [network.stages[i].rule for i in network.sites].count(Relu(6.0)) == 2
    torch.testing.assert_close(network(x), model(x))


class Blocks(nn.Module):
    """Residual, grouped, dilated and strided convolutions with BN; option-A shortcut; concatenation; both average pools."""

    def __init__(self, dims: int) -> None:
        super().__init__()
        conv, norm = (nn.Conv1d, nn.BatchNorm1d) if dims == 1 else (nn.Conv2d, nn.BatchNorm2d)
        self.dims = dims
        self.conv1, self.norm1 = conv(3, 8, 3, padding=1, bias=False), norm(8)
        self.conv2, self.norm2 = conv(8, 8, 3, stride=2, padding=2, dilation=2, groups=4), norm(8)
        self.conv3, self.norm3 = conv(16, 8, 1), norm(8, affine=False)
        self.late = norm(8)
        self.fc, self.norm4 = nn.Linear(8, 8), nn.BatchNorm1d(8)
        self.out = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm1(self.conv1(x)))
        short = x[:, :, ::2] if self.dims == 1 else x[:, :, ::2, ::2]
        y = self.norm2(self.conv2(x))
        y += short
        y = F.relu(y)
        z = F.relu(self.norm3(self.conv3(torch.cat([y, short], 1))))
        z = self.late(z)
        z = z.mean(2) if self.dims == 1 else F.adaptive_avg_pool2d(z, 1).flatten(1)
        return self.out(F.relu(self.norm4(self.fc(F.dropout(z, training=self.training)))))


@pytest.mark.parametrize("dims", [1, 2])
def test_folded_network_answers_as_the_original(dims: int) -> None:
    x = torch.randn(16, 3, *[8] * dims)
    model = settle_norms(Blocks(dims), x)
    network = trace(model, x)
    assert len(network.sites) == 4
    assert not any(isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d) for s in network.stages for m in s.synapses.modules())
    torch.testing.assert_close(network(x), model(x), atol=1e-4, rtol=1e-4)


def test_bn_folding_by_hand() -> None:
    """methods.md 0.1: gamma 2, beta .5, mean .3, var + eps .25, W 1.5, b .1 -> W' 6.0, b' -.3."""
    model = nn.Sequential(nn.Conv1d(1, 1, 1), nn.BatchNorm1d(1), nn.ReLU()).eval()
    conv, norm = model[0], model[1]
    with torch.no_grad():
        conv.weight.fill_(1.5), conv.bias.fill_(0.1), norm.weight.fill_(2), norm.bias.fill_(0.5)
        norm.running_mean.fill_(0.3), norm.running_var.fill_(0.25 - norm.eps)
    network = trace(model, torch.zeros(1, 1, 1))
    z = [z.item() for x in (0.0, 1.0) for _, z, _ in [next(network.trace(torch.full((1, 1, 1), x)))]]
    assert z == pytest.approx([-0.3, 5.7], abs=1e-5)


class InPlace(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        y = x * 2 - 1
        z = F.relu_(y)
        return z + y  # y was changed in place, so this is 2 relu(2x - 1)


def test_in_place_relu_changes_later_readers() -> None:
    x = torch.randn(4, 3)
    torch.testing.assert_close(trace(InPlace(), x)(x), InPlace()(x.clone()))


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = Encoder()
        self.head = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 2))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.encoder(x)))


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.lstm = nn.Embedding(10, 4), nn.LSTM(4, 3, batch_first=True, bidirectional=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.lstm(self.embedding(x))[0].mean(1) if x.shape[1] > 1 else self.lstm(self.embedding(x))[0][:, 0]


def test_recurrent_front_runs_once_and_whole() -> None:
    model, x = Recurrent().eval(), torch.randint(0, 10, (4, 7))
    network = trace(model, x)
    assert [s.constant for s in network.stages] == [True, False]
    torch.testing.assert_close(network(x), model(x))


class Late(nn.Module):
    def __init__(self, operation: nn.Module) -> None:
        super().__init__()
        self.fc, self.operation = nn.Linear(3, 3), operation

    def forward(self, x: Tensor) -> Tensor:
        return self.operation(F.relu(self.fc(x)))


class Product(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * x


@pytest.mark.parametrize(
    "operation", [nn.Sigmoid(), nn.GELU(), nn.Softmax(1), nn.LayerNorm(3), nn.LeakyReLU(), Product()]
)
def test_nonlinearity_after_a_site_is_refused_by_name(operation: nn.Module) -> None:
    with pytest.raises(UnsupportedNetwork, match=r"node 'operation|node 'mul") as error:
        trace(Late(operation), torch.randn(2, 3))
    assert str(error.value).count(".") <= 2
    assert "\n" not in str(error.value)


def test_network_without_relu_is_refused() -> None:
    with pytest.raises(UnsupportedNetwork, match="no ReLU"):
        trace(nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 2)), torch.randn(2, 3))


class Branching(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x) if x.sum() > 0 else x


def test_control_flow_on_data_is_refused() -> None:
    with pytest.raises(UnsupportedNetwork, match="cannot be traced"):
        trace(Branching(), torch.randn(2, 3))


def test_pool_moves_before_its_relu() -> None:
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 3))
    x = torch.randn(5, 2, 8, 8)
    network = trace(model, x)
    moved = pool_before_neuron(network)
    assert [type(s.rule) for s in network.stages][:2] == [Relu, MaxPool]
    assert [type(s.rule) for s in moved.stages][:2] == [MaxPool, Relu]
    torch.testing.assert_close(moved(x), model(x))


def test_front_max_pool_is_no_stage() -> None:
    model = nn.Sequential(nn.MaxPool1d(2), nn.Flatten(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    x = torch.randn(3, 1, 8)
    network = trace(model, x)
    assert len(network.stages) == 2
    torch.testing.assert_close(network(x), model(x))
