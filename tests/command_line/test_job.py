"""Jobs: defaults that depend on the model, contradictions, and configurations of older versions."""

import dataclasses
import json

import click
import equinox as eqx
import jax
import numpy as np
import pytest
from click.testing import CliRunner

import fathomx as fx
from fathomx.command_line.job import Job
from fathomx.command_line.models import MODELS
from fathomx.command_line.options import job_options, only_given, written_options
from fathomx.command_line.settings import Settings, option
from fathomx.command_line.train import train
from fathomx.graph.statistics import parameter_count
from fathomx.inference.schedule import Decaying, Spiking, Uniform
from fathomx.learning import EquilibriumErrors, EquilibriumPropagation, ForwardUpdate, Incremental

# What `fathomx train` of version 0.1.0 stored.
OLD = {
    "data": "digits",
    "model": "mlp",
    "depth": 4,
    "width": 8,
    "activation": "gelu",
    "parameterization": "mupc",
    "inference": "gauss-newton",
    "learning": "equilibrium",
    "output_precision": None,
    "epochs": 3,
    "batch_size": 32,
    "learning_rate": 1,
    "strength": 0.1,
    "seed": 0,
    "fathomx": "0.1.0",
    "command": "fathomx train",
}


@pytest.mark.parametrize(
    ("model", "depth", "width", "parameterization", "normalization", "auxiliary"),
    [
        ("mlp", 64, 128, "mupc", None, None),
        ("residual-mlp", 64, 128, "mupc", None, None),
        ("vgg", 10, 1.0, "he", "none", None),
        ("resnet", 10, 1.0, "he", "none", True),
        ("residual-cnn", 11, 32, "mupc", None, None),
        ("transformer", 4, 128, "mupc", "none", None),
    ],
)
def test_defaults_are_those_of_the_model(
    model, depth, width, parameterization, normalization, auxiliary
):
    config = Job(model=model).config()
    assert config["depth"] == depth
    assert config["width"] == width and type(config["width"]) is type(width)
    assert config["parameterization"] == parameterization
    assert config["normalization"] == normalization
    assert config["auxiliary"] is auxiliary


def test_what_is_given_is_kept():
    job = Job(model="resnet", depth=18, width=1, parameterization="standard", auxiliary=False)
    assert (job.depth, job.width, job.parameterization, job.auxiliary) == (
        18,
        1.0,
        "standard",
        False,
    )
    assert type(job.width) is float
    whole = Job(width=32.0)
    assert whole.width == 32 and type(whole.width) is int


def test_auxiliary_nodes_and_state_descent_share_one_rate():
    """Their precision is 1 / rate, so both must be told of the same one."""
    job = Job(model="resnet", width=0.05, data="digits", inference="state-descent")
    assert job.activity_rate == 0.5
    given = Job(model="resnet", width=0.05, inference="state-descent", activity_rate=0.25)
    network = eqx.filter_eval_shape(given.network, given.load())
    precisions = {n.name: n.energy.precision for n in network.entries[1:]}
    assert precisions["stage1.block1.skip2"] == 4
    assert Job(model="resnet", auxiliary=False, inference="state-descent").activity_rate is None
    assert Job(inference="state-descent").activity_rate is None


def test_each_model_gets_the_data_in_its_form():
    perceptron = Job(take=40, depth=3, width=4)
    data = perceptron.load()
    assert data.train.inputs.shape == (40, 64)
    assert perceptron.network(data).input_shape == (64,)
    residual = Job(model="resnet", take=40, width=0.05, normalization="group", auxiliary=False)
    images = residual.load()
    assert images.train.inputs.shape == (40, 8, 8, 1)
    network = eqx.filter_eval_shape(residual.network, images)
    assert network.input_shape == (8, 8, 1)
    assert network.depth == 10
    np.testing.assert_array_equal(images.train.inputs.reshape(40, 64), data.train.inputs)


def test_a_transformer_reads_named_and_other_texts(tmp_path):
    novel = tmp_path / "novel.txt"
    novel.write_text("The sun rose. The moon set. " * 20)
    job = Job(model="transformer", data=str(novel), context=6, depth=3, width=8, heads=2, take=5)
    data = job.load()
    assert data.train.inputs.shape == (5, 6)
    assert data.decode(data.train.inputs[1]) == "n rose"
    network = job.network(data)
    assert network.input_shape == (6,) and network.output_shape == (6, data.classes)
    assert network.depth == 3 + 2
    block = network.entries[2].block
    assert block.attention.heads == 2 and block.attention.query.weight.shape == (3, 8, 8)
    default = Job(model="transformer")
    assert (default.data, default.context, default.heads) == ("tiny-shakespeare", 64, 4)
    assert Job().data == "digits" and Job().context is None


def test_residual_cnns_have_equal_stages():
    job = Job(model="residual-cnn", depth=8, width=4, take=10)
    network = job.network(job.load())
    assert network.depth == 8
    assert network.labels[:3] == ("stem", "stage1.first", "stage1.rest[0]")
    with pytest.raises(ValueError, match=r"5, 8, 11 or another 3 \* blocks \+ 2, not 9"):
        Job(model="residual-cnn", depth=9).network(job.load())


def test_he_is_the_standard_with_its_gain():
    """Weights of the same key are larger by sqrt(2)."""
    data = Job().load()
    he, standard = (
        Job(model="mlp", depth=3, width=16, parameterization=name).network(data)
        for name in ("he", "standard")
    )
    np.testing.assert_allclose(
        he.entries[1].function.weight, np.sqrt(2) * standard.entries[1].function.weight, rtol=1e-6
    )


@pytest.mark.parametrize(
    ("schedule", "kind"), [("uniform", Uniform), ("spiking", Spiking), ("decaying", Decaying)]
)
def test_descents_take_their_options(schedule, kind):
    solver = Job(inference="state-descent", schedule=schedule, steps=70).solver()
    assert isinstance(solver, fx.StateDescent)
    assert solver.steps == 70
    assert isinstance(solver.schedule, kind)
    default = Job(inference="error-descent", schedule=schedule).solver()
    assert isinstance(default, fx.ErrorDescent)
    assert default.steps == fx.ErrorDescent().steps


def test_biases_are_an_option():
    plain, biased = (Job(model="mlp", depth=3, width=4, bias=bias) for bias in (False, True))
    data = plain.load()
    counts = [parameter_count(job.network(data)) for job in (plain, biased)]
    assert counts[1] - counts[0] == 4 + 4 + 10


def test_the_activity_rate_is_that_of_a_plain_gradient_step():
    optimizer = Job(inference="state-descent", activity_rate=0.3).solver().optimizer
    update, _ = optimizer.update(np.float32(2.0), optimizer.init(np.float32(0.0)))
    assert float(update) == pytest.approx(-0.6)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("equilibrium", fx.Equilibrium),
        ("incremental", Incremental),
        ("forward-update", ForwardUpdate),
        ("equilibrium-errors", EquilibriumErrors),
        ("equilibrium-propagation", EquilibriumPropagation),
        ("backprop", fx.Backprop),
    ],
)
def test_rules_by_name(name, kind):
    held = Job(learning=name).rule()
    assert type(held) is kind
    if name == "backprop":
        assert Job(learning=name).strength is None
        return
    usual = 0.01 if name == "equilibrium-propagation" else 0.1
    assert held.output_precision == fx.HoldStrength(usual)
    assert held.output_precision == kind().output_precision
    assert isinstance(held.solver, fx.GaussNewton)
    fixed = Job(learning=name, output_precision=0.25).rule()
    assert fixed.output_precision == 0.25
    if name == "equilibrium-propagation":
        assert fixed.beta == 0.25
        assert fixed.centered


def test_by_backprop_leaves_out_what_belongs_to_inference():
    job = Job(inference="state-descent", schedule="decaying", steps=70, strength=0.3)
    other = job.by_backprop()
    assert isinstance(other.rule(), fx.Backprop)
    assert (other.depth, other.width, other.seed) == (job.depth, job.width, job.seed)


@pytest.mark.parametrize(
    "changes",
    [{"inference": "newton"}, {"output_precision": 0.5}, {"strength": 0.5}, {"batch_size": 8}],
    ids=str,
)
def test_a_diagnosis_may_change_inference(changes):
    """Options that would contradict what replaces them go with it."""
    job = Job(inference="state-descent", schedule="spiking", steps=70, epochs=3)
    for trained in (job, job.by_backprop()):
        changed = trained.for_diagnosis(**changes)
        assert changed.learning == "equilibrium"
        assert {name: getattr(changed, name) for name in changes} == changes
    assert job.for_diagnosis(**changes).schedule == (
        "uniform" if "inference" in changes else "spiking"
    )


def test_schedules_are_checked_before_a_run():
    job = Job(inference="state-descent", schedule="spiking", steps=7, depth=8, width=4)
    data = job.load()
    with pytest.raises(ValueError, match="at least 8 inference steps"):
        job.check(data, job.network(data))
    enough = Job(inference="state-descent", schedule="spiking", steps=8, depth=8, width=4)
    enough.check(data, enough.network(data))


def test_configurations_of_the_first_version_still_load():
    job = Job.from_config(OLD)
    assert {name: getattr(job, name) for name in OLD if hasattr(job, name)} == {
        name: value for name, value in OLD.items() if hasattr(job, name)
    }
    assert type(job.learning_rate) is float
    assert (job.schedule, job.steps, job.take, job.normalization) == ("uniform", 1, None, None)
    data = job.load()
    expected = fx.models.mlp(
        64, 10, width=8, depth=4, parameterization=fx.MuPC(), key=jax.random.key(0)
    )
    one, other = jax.tree.leaves(job.network(data)), jax.tree.leaves(expected)
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    "job",
    [
        Job(),
        Job(model="vgg", width=0.5, normalization="batch"),
        Job(model="resnet", auxiliary=False, inference="state-descent", schedule="spiking"),
        Job(learning="backprop"),
        Job(model="transformer", heads=2, context=32),
        Job(output_precision=1.0, take=100),
        Job(bias=True),
    ],
    ids=["default", "vgg", "resnet", "backprop", "transformer", "precision", "bias"],
)
def test_a_configuration_leads_back_to_the_job(job):
    assert Job.from_config(json.loads(json.dumps(job.config()))) == job


def test_a_run_of_before_goes_on_measuring_in_every_step():
    before, now = Job.from_config(OLD), Job()
    assert (before.certify, before.strength_every) == (1, 1)
    assert before.rule().output_precision == fx.HoldStrength(before.strength, every=1)
    assert now.rule().output_precision.every == now.strength_every == now.certify == 16


def test_a_schedule_stored_under_its_earlier_name_is_read():
    config = Job(inference="state-descent", schedule="spiking", steps=70).config()
    earlier = {**config, "precision": config.pop("schedule")}
    earlier.pop("rematerialize")
    assert Job.from_config(earlier) == Job(inference="state-descent", schedule="spiking", steps=70)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("depth", "four"),
        ("depth", 4.5),
        ("width", "8"),
        ("seed", 1.0),
        ("auxiliary", 1),
        ("precision", ["spiking"]),
    ],
)
def test_a_damaged_configuration_is_named(name, value):
    with pytest.raises(ValueError, match=rf"config\.json is damaged: {name}"):
        Job.from_config({**OLD, name: value})


def test_a_configuration_that_lacks_a_field_is_named():
    with pytest.raises(ValueError, match=r"config\.json is damaged: it lacks model, seed\."):
        Job.from_config({k: v for k, v in OLD.items() if k not in ("model", "seed")})


def led_to(job):
    """What the written options of a job are read as."""
    words = [word for option in written_options(job) for word in option.split()]
    with train.make_context("train", words) as context:
        return only_given({k: v for k, v in context.params.items() if k in job.config()})


@pytest.mark.parametrize("model", ["mlp", "residual-mlp", "vgg", "transformer", "decoder"])
@pytest.mark.parametrize("settings", [{}, {"batch_size": 16, "activation": "tanh"}])
def test_the_command_of_a_job_leads_to_it(model, settings):
    job = Job(model=model, **settings)
    assert Job(**led_to(job)) == job


@pytest.mark.parametrize(
    "settings",
    [
        {"learning": "equilibrium-propagation"},
        {"learning": "equilibrium-propagation", "strength": 0.1},
        {"learning": "incremental", "steps": 1},
        {"inference": "state-descent", "schedule": "decaying", "output_precision": 1.0},
    ],
)
def test_what_is_usual_only_without_another_option_is_written(settings):
    job = Job(**settings)
    assert Job(**led_to(job)) == job
    assert led_to(job).keys() >= settings.keys()


def test_what_a_job_begins_with_is_usual():
    """An option that only the former job made usual is written, and no other."""
    before = Job(learning="equilibrium-propagation", batch_size=16)
    job = before.continued(learning="equilibrium", strength=0.01)
    said = written_options(job, before.continued)
    assert said == ["--learning equilibrium", "--strength 0.01"]
    assert before.continued(learning="equilibrium").strength == 0.1
    assert before.continued(epochs=3).strength == 0.01
    assert Job(strength=0.3).continued(learning="equilibrium-propagation").strength == 0.3
    assert before.by_backprop().continued(learning="equilibrium").strength == 0.1


def test_an_option_of_a_model_is_declared_in_one_place(monkeypatch):
    """Help, kind, range, default, stored form, command and network follow from its field."""
    taken = []

    def make(in_size, out_size, rank, **choices):
        taken.append(rank)
        return fx.models.mlp(in_size, out_size, **choices)

    monkeypatch.setitem(MODELS, "mlp", dataclasses.replace(MODELS["mlp"], make=make))

    @dataclasses.dataclass(frozen=True)
    class More(Job):
        rank: int | None = option(None, "Rank of every layer.", models={"mlp": 3}, least=1)

    @click.command()
    @job_options(training=False, of=More)
    def command(**given):
        job = More(**only_given(given))
        job.network(job.load())
        click.echo(" ".join(written_options(job)))

    shown = CliRunner().invoke(command, ["--help"], terminal_width=200).output
    assert "--rank INTEGER " in shown and "Rank of every layer. [default: 3]" in shown
    words = ["--model", "mlp", "--width", "4", "--depth", "2"]
    assert "--rank" not in CliRunner().invoke(command, words).output
    assert "--rank 5" in CliRunner().invoke(command, [*words, "--rank", "5"]).output
    assert taken == [3, 5]
    assert "'x' is not a valid integer" in CliRunner().invoke(command, ["--rank", "x"]).output

    with pytest.raises(ValueError, match=r"rank must be at least 1, not 0\."):
        More(model="mlp", rank=0)
    with pytest.raises(ValueError, match="model 'vgg' has no rank; leave it out, or use model 'm"):
        More(model="vgg", rank=2)
    assert More(model="vgg").rank is None
    # Stored runs of before do not have it, those of after may be damaged.
    assert More.from_config(OLD).rank == 3
    stored = More(model="mlp", rank=2)
    assert More.from_config(json.loads(json.dumps(stored.config()))) == stored
    with pytest.raises(ValueError, match="damaged: rank is 'two', not int"):
        More.from_config({**OLD, "rank": "two"})

    each = option(None, "Rank.", models={"mlp": 3, "vgg": 5, "resnet": 5})
    assert each.metadata["help"] == "Rank. [default: 3 for mlp, 5 for vgg and resnet]"


def test_options_are_of_models_that_there_are():
    for field in dataclasses.fields(Settings):
        assert set(field.metadata["models"] or ()) <= set(MODELS)
