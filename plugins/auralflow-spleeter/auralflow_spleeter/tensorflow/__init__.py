"""TensorFlow's checkpoints (tensor bundles), read without TensorFlow."""

from auralflow_spleeter.tensorflow.bundle import TensorBundle

__all__ = ["TensorBundle"]
