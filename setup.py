"""Installs the packages `distill` and `tasks`, and gin/ as data inside `distill`."""

from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).resolve().parent
VERSION = next(
    line.split('"')[1]
    for line in (HERE / "distill" / "__init__.py").read_text().splitlines()
    if line.startswith("__version__")
)

setup(
    name="distill-step-by-step",
    version=VERSION,
    description="Distilling step-by-step in JAX: small students from an LLM's rationales",
    long_description=(HERE / "README.md").read_text(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=[*find_packages(include=["distill*", "tasks*"]), "distill.gin"],
    package_dir={"distill.gin": "gin"},
    package_data={
        "distill.gin": ["**/*.gin"],
        "distill.teacher": ["prompts/*.toml", "prices.json"],
    },
    install_requires=[
        "etils[epath]>=1.15",
        "flax>=0.12.8",
        "gin-config>=0.5.0",
        "importlib_resources",
        "jax>=0.10.2",
        "optax>=0.2.8",
        "orbax-checkpoint>=0.12.8",
        "sentencepiece",
        "seqio>=0.0.20",
        "tensorboardX",
        "tensorflow-datasets>=4.9.10",
        "tqdm",
    ],
    extras_require={
        "tpu": ["jax[tpu]>=0.10.2"],
        "teacher": ["openai>=2"],
        "hf": ["transformers>=4.57", "torch>=2.9"],
        "dev": ["hypothesis", "import-linter>=2.5", "openai>=2", "pytest", "ruff"],
    },
    entry_points={"console_scripts": ["distill=distill.cli:main"]},
    classifiers=[
        "License :: OSI Approved :: Apache Software License",
        "Programming Language :: Python :: 3.11",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
