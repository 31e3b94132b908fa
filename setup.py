"""The package and the command. Beam's --setup_file builds this to ship kubetfx to remote workers.

The folders beside this file are one package: kubetfx/ has a relative link to each of them, which setuptools follows.
A wheel and an sdist hold plain files below kubetfx/ and nothing else (docs/decisions/0013-one-import-name.md).
"""

from setuptools import find_packages, setup

setup(
    packages=find_packages(include=["kubetfx", "kubetfx.*"]),
    package_data={
        "kubetfx": ["py.typed", "requirements.txt"],
        "kubetfx.components.report": ["templates/*"],
        "kubetfx.kubeflow": ["templates/*"],
        "kubetfx.models.columns.text": ["*.tsv"],
    },
    entry_points={"console_scripts": ["kubetfx = kubetfx.cli.app:main"]},
)
