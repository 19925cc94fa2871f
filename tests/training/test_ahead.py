"""Programs are compiled before they are called, side by side, and nothing is compiled twice."""

import threading

import jax
import jax.numpy as jnp
import pytest

import kilolayer as kl
from kilolayer.training import Setup, ahead, population
from kilolayer.training.ahead import Ahead, shapes
from kilolayer.training.step import Steps, init_states
from small_runs import small_config


@pytest.fixture
def compiled():
    """The names of the threads in which programs were compiled, or read from JAX's cache on the disk, one for each."""
    found = []

    def listen(name, seconds, **_):
        if name.endswith("backend_compile_duration"):
            found.append(threading.current_thread().name)

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield found
    jax.monitoring.unregister_event_duration_listener(listen)


@pytest.mark.parametrize("bound", [False, True])
def test_a_call_takes_what_was_compiled_for_its_shapes(compiled, bound):
    arguments = (jnp.ones((2, 3)), jax.random.key(0), jnp.asarray(2.0), 0.0 * jnp.zeros(3))
    arguments = jax.device_put(arguments, jax.devices()[0]) if bound else arguments
    program = jax.jit(lambda x, key, y, z: x * y + z + jax.random.normal(key, (3,)), donate_argnums=0)
    one = Ahead()
    described = shapes(arguments)
    compiled.clear()
    one.start({"program": lambda: program.lower(*described)})
    one.wait("program")
    program(*arguments)
    one.shutdown()
    assert len(compiled) == 1
    assert compiled[0].startswith("compile")


@pytest.mark.parametrize(
    ("mode", "overlap"),
    [
        ("threads", False),
        ("threads", True),
        *(pytest.param("vmap", overlap, marks=pytest.mark.slow) for overlap in (False, True)),
    ],
)
def test_training_and_evaluating_compile_nothing_after_that(compiled, mode, overlap):
    robot = {"env": "reacher", "engine": "mujoco", "overlap": True} if overlap else {}
    setup = Setup.build(small_config(**robot))
    states = init_states(setup, [0, 1] if mode == "vmap" else [0])
    one = population.populate(mode, setup, states)
    asked = []
    start = one._ahead.start
    one._ahead.start = lambda programs: (asked.extend(programs), start(programs))
    assert one.compile_ahead(4) == len(asked) == 3 + overlap
    keys = [jax.random.key(seed) for seed in range(len(states))]
    for name in asked:
        one._ahead.wait(name)
    assert (one.clocks.env_steps, jnp.stack(keys).shape) == (0, (len(keys),))  # operations of their own
    compiled.clear()
    one.evaluate(keys, 4)
    while one.clocks.gradient_steps < 6:
        one.advance(learn=one.clocks.env_steps >= 80)
    one.close()
    assert len(compiled) <= overlap  # the split of the key


def test_what_compilation_raises_appears_where_the_program_is_first_used(tmp_path, monkeypatch):
    def fail(state):
        raise MemoryError("too deep")

    def steps(setup, **how):
        return Steps(real(setup, **how).collect, jax.jit(fail))

    real = population.compile_steps
    monkeypatch.setattr(population, "compile_steps", steps)
    with pytest.raises(kl.TrainingError, match=r"a program failed after env step 80: memory is exhausted \(too deep\)"):
        kl.train(config=small_config(num_evals=10), run_dir=tmp_path / "run", progress=False)
    assert kl.load(tmp_path / "run").env_steps == 80


@pytest.mark.parametrize(("cores", "together"), [(1, 1), (2, 1), (3, 2), (16, 3)])
def test_one_core_is_left_to_the_caller(monkeypatch, cores, together):
    monkeypatch.setattr(ahead, "cpu_cores", lambda: cores)
    running, most, lock = set(), [], threading.Lock()
    all_there = threading.Event()

    class Lowered:
        def compile(self):
            with lock:
                running.add(self)
                most.append(len(running))
                if len(running) == together:
                    all_there.set()
            assert all_there.wait(60.0)
            with lock:
                running.discard(self)

    one = Ahead()
    one.start(dict.fromkeys("abc", Lowered))
    for name in "abc":
        one.wait(name)
    one.shutdown()
    assert max(most) == together


def test_what_has_not_begun_is_left_out_at_the_end(monkeypatch):
    monkeypatch.setattr(ahead, "cpu_cores", lambda: 1)
    begun, go, compiled = threading.Event(), threading.Event(), []

    class Lowered:
        def compile(self):
            begun.set()
            assert go.wait(60.0)
            compiled.append(self)

    one = Ahead()
    one.start(dict.fromkeys("abc", Lowered))
    assert begun.wait(60.0)
    threading.Timer(0.05, go.set).start()
    one.shutdown()
    assert len(compiled) == 1
