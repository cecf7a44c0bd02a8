"""Makes `blstm/` and `blstm.npz` beside it with TensorFlow (2.21, in an environment of its own).

`blstm/` is a checkpoint of two small BLSTMs under the names that Spleeter's graph has: `CuDNNLSTM` in `Bidirectional`,
layers in `TimeDistributed`. That class needs a GPU; Keras' LSTM computes the same with the sum of its two biases.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.keras import layers

HERE = Path(__file__).parent
INSTRUMENTS, LAYERS = 2, 3
T, F, CHANNELS, UNITS = 12, 5, 2, 3


def numbered(kind: str, number: int) -> str:
    return f"{kind}_{number}" if number else kind


def blstm(number: int, weights: dict[str, Any]) -> Any:
    """Return an instrument's network; its weights are drawn, and added under Spleeter's names."""
    generator = np.random.default_rng(number)
    model = tf.keras.Sequential([tf.keras.Input((T, F * CHANNELS))])
    for _ in range(LAYERS):
        model.add(layers.Bidirectional(layers.LSTM(UNITS, return_sequences=True)))
    model.add(layers.Dense(F * CHANNELS, activation="relu"))
    for layer, bidirectional in enumerate(model.layers[:LAYERS]):
        for direction, lstm in (("forward", bidirectional.forward_layer), ("backward", bidirectional.backward_layer)):
            kernel, recurrent, bias = (generator.normal(0, 0.6, weight.shape) for weight in lstm.weights)
            lstm.set_weights([kernel, recurrent, bias])
            at = numbered("cu_dnnlstm", LAYERS * number + layer)
            name = f"{numbered('bidirectional', LAYERS * number + layer)}/{direction}_{at}"
            share = generator.normal(0, 0.6, bias.shape)
            weights |= {f"{name}/kernel": kernel, f"{name}/recurrent_kernel": recurrent}
            weights[f"{name}/bias"] = np.concatenate([bias - share, share])
    kernel, bias = (generator.normal(0, 0.6, weight.shape) for weight in model.layers[-1].weights)
    model.layers[-1].set_weights([kernel, bias])
    # Of the wrappers of an instrument the first one flattens and has no weights; the third has a name of its own.
    name = numbered("time_distributed", 2 * number + 1)
    weights |= {f"{name}/kernel": kernel, f"{name}/bias": bias}
    return model


def main() -> None:
    image = np.random.default_rng(9).uniform(0, 4, (1, T, F, CHANNELS)).astype(np.float32)
    weights: dict[str, Any] = {}
    models = [blstm(number, weights) for number in range(INSTRUMENTS)]
    estimates = [model(image.reshape(1, T, F * CHANNELS)).numpy().reshape(image.shape) for model in models]
    slots = {f"{name}/Adam": np.zeros_like(value) for name, value in weights.items()}
    tensors = {name: value.astype(np.float32) for name, value in {**weights, **slots}.items()}
    (HERE / "blstm").mkdir(exist_ok=True)
    tf.raw_ops.SaveV2(
        prefix=str(HERE / "blstm" / "model"),
        tensor_names=list(tensors),
        shape_and_slices=[""] * len(tensors),
        tensors=list(tensors.values()),
    )
    np.savez_compressed(HERE / "blstm.npz", image=image, estimates=np.stack(estimates))


if __name__ == "__main__":
    main()
