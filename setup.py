"""The packages and the command. Beam's --setup_file builds this to ship kubetfx to remote workers."""

from setuptools import find_packages, setup

setup(
    packages=find_packages(include=["pipeline*", "components*", "models*", "kubeflow*", "serving*"]),
    package_data={"components.report": ["templates/*"]},
    entry_points={"console_scripts": ["kubetfx = pipeline.cli:main"]},
)
