"""Any value of any macro gives a configuration or a UserError, never another exception."""

import hypothesis
from hypothesis import strategies as st

import tasks  # registers the datasets  # noqa: F401
from distill.config import fields, resolve, stored
from distill.data import datasets
from distill.errors import UserError

EXPERIMENTS = ("tickets_step_by_step", "jsonl_step_by_step", "esnli_mini_step_by_step")
OPTIONS = [
    "POLICY",
    "NUM_ROWS",
    "NUM_TEST",
    "TEACHER_ACCURACY",
    "TRAIN_FILE",
    "TEST_FILE",
    "LABELS",
    "RAW_DIR",
    "RAW_SPLIT",
    "RAW_TEST_SPLIT",
    "RAW_TEACHER",
    "RAW_FORM",
    "TEST_FRACTION",
    "ENGINE",
]
NAMES = st.sampled_from([*fields.defaults(), *OPTIONS])

numbers = st.one_of(
    st.integers(),
    st.floats(),
    st.sampled_from([0, 1, -1, True, False, 2**31 - 1, 2**31, 2**32, 10**9, 10**30]),
)
atoms = st.one_of(numbers, st.text(max_size=8), st.just("\ud800"), st.binary(max_size=4), st.none())
literals = st.recursive(
    atoms,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(st.one_of(st.text(max_size=4), st.integers()), inner, max_size=3),
    ),
    max_leaves=6,
)
texts = st.one_of(
    literals.map(repr),
    st.text(max_size=20),
    st.text("[](){}'\"\\%@,:=#.-0123456789eEinfNaTrue\n", max_size=24),
    st.sampled_from(["%SEED", "%DATA_SEED", "%NOWHERE", "@x()", "1e999", "-1e999", "{[]: 1}"]),
    st.sampled_from(
        ["(" * 40 + ")" * 40, "[" * 3000, "-" * 3000 + "1", "9" * 6000, "0x" + "f" * 6000]
    ),
)


@hypothesis.given(st.sampled_from(EXPERIMENTS), st.lists(st.tuples(NAMES, texts), max_size=3))
@hypothesis.example("tickets_step_by_step", [("SEED", str(2**32))])
@hypothesis.example("tickets_step_by_step", [("LABEL_PREFIX", "'\\ud800'")])
@hypothesis.example("tickets_step_by_step", [("LABEL_PREFIX", "\ud800")])
@hypothesis.example("tickets_step_by_step", [("SEED", "0x" + "f" * 6000)])
@hypothesis.example("tickets_step_by_step", [("LABEL_PREFIX", "5")])
@hypothesis.example("tickets_step_by_step", [("DATASET_OPTIONS", "5")])
@hypothesis.example("tickets_step_by_step", [("DATASET_OPTIONS", "[" * 3000)])
@hypothesis.example("tickets_step_by_step", [("INPUT_LENGTH", "100000000000")])
@hypothesis.example("tickets_step_by_step", [("BATCH_SIZE", "1000000000")])
def test_a_configuration_is_read_or_refused(count, experiment, settings):
    count()
    overrides = [f"{name}={text}" for name, text in settings]
    try:
        resolved = resolve.resolve([experiment], overrides)
        run = resolved.run
        assert stored.load_stored(resolved.text.encode(), "config.gin")
        dataset = datasets.get(run.data.dataset)
        dataset.labels(run.data)
        dataset.files(run.data)
        if run.data.dataset == "tickets":
            dataset.load(run.data)
    except UserError as error:
        assert str(error)
