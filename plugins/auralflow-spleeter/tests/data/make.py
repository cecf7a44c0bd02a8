"""Makes what lies beside it with TensorFlow (2.21, in an environment of its own): `python make.py`.

`unet/` is a checkpoint of two small U-Nets as Spleeter's training writes it: Keras' layers in the order in which they
are made there, saved by the operation that `tf.compat.v1.train.Saver` calls. `outputs.npz` holds what Keras computes
with these weights, the stems that Spleeter's separation makes of a short noise, and the gradients of a training step.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.keras import layers

HERE = Path(__file__).parent
FILTERS = (2, 3, 2, 4, 3, 2)
INSTRUMENTS = 2
T = F = 64
FRAME_LENGTH, FRAME_STEP = 256, 64
EVERY = 7  # of the outputs only so many rows and columns are kept


def u_net(image: Any, down: str, up: str) -> tuple[Any, list[Any]]:
    """Return the logits of an instrument, and its layers with weights in the order in which they are made."""
    made: list[Any] = []

    def apply(layer: Any, x: Any) -> Any:
        made.append(layer)
        return layer(x)

    def activate(x: Any, name: str) -> Any:
        return {"ReLU": layers.ReLU(), "ELU": layers.ELU(), "LeakyReLU": layers.LeakyReLU(negative_slope=0.2)}[name](x)

    x, convolved = image, []
    for width in FILTERS:
        convolved.append(apply(layers.Conv2D(width, 5, strides=2, padding="same"), x))
        x = activate(apply(layers.BatchNormalization(), convolved[-1]), down)
    x = convolved.pop()
    for width in (*reversed(FILTERS[:-1]), 1):
        x = activate(apply(layers.Conv2DTranspose(width, 5, strides=2, padding="same"), x), up)
        x = apply(layers.BatchNormalization(), x)
        x = layers.Concatenate()([convolved.pop(), x]) if convolved else x
    return apply(layers.Conv2D(2, 4, dilation_rate=2, padding="same"), x), made


def make_model(down: str, up: str) -> tuple[Any, dict[str, Any]]:
    """Return the networks of all instruments, and their weights by Spleeter's names."""
    image = tf.keras.Input((T, F, 2))
    built = [u_net(image, down, up) for _ in range(INSTRUMENTS)]
    counts: dict[str, int] = {}
    weights: dict[str, Any] = {}
    for layer in (layer for _, made in built for layer in made):
        kind = {"Conv2D": "conv2d", "Conv2DTranspose": "conv2d_transpose"}.get(
            type(layer).__name__, "batch_normalization"
        )
        number = counts[kind] = counts.get(kind, -1) + 1
        for weight in layer.weights:
            weights[f"{kind}_{number}/{weight.name}" if number else f"{kind}/{weight.name}"] = weight
    return tf.keras.Model(image, [logits for logits, _ in built]), weights


def randomise(weights: dict[str, Any]) -> None:
    generator = np.random.default_rng(0)
    for name, weight in weights.items():
        if name.endswith("kernel"):
            value = generator.normal(0, (3 / np.prod(weight.shape[:2]) / max(weight.shape[2:])) ** 0.5, weight.shape)
        else:
            low, high = (0.1, 2.0) if name.endswith(("gamma", "variance")) else (-1.0, 1.0)
            value = generator.uniform(low, high, weight.shape)
        weight.assign(value.astype(np.float32))


def spleeters_separation(model: Any, audio: Any) -> Any:
    """Return the stems `(instrument, time, channel)` by ratio masks of exponent 2 with zeros above F."""
    length = len(audio)
    padded = tf.concat([tf.zeros((FRAME_LENGTH, 2)), audio], 0)
    spectrogram = tf.signal.stft(tf.transpose(padded), FRAME_LENGTH, FRAME_STEP, window_fn=hann, pad_end=True)
    spectrogram = tf.transpose(spectrogram, [1, 2, 0])  # (frame, bin, channel)
    frames = len(spectrogram)
    pieces = tf.reshape(tf.pad(spectrogram, [[0, -frames % T], [0, 0], [0, 0]]), (-1, T, FRAME_LENGTH // 2 + 1, 2))
    magnitude = tf.abs(pieces)[:, :, :F]
    estimates = [tf.sigmoid(logits) * magnitude for logits in model(magnitude, training=False)]
    total = sum(estimate**2 for estimate in estimates) + 1e-10
    stems = []
    for estimate in estimates:
        mask = tf.pad(
            (estimate**2 + 1e-10 / INSTRUMENTS) / total, [[0, 0], [0, 0], [0, FRAME_LENGTH // 2 + 1 - F], [0, 0]]
        )
        mask = tf.reshape(mask, (-1, FRAME_LENGTH // 2 + 1, 2))[:frames]
        masked = tf.transpose(tf.cast(mask, tf.complex64) * spectrogram, [2, 0, 1])
        stem = tf.signal.inverse_stft(masked, FRAME_LENGTH, FRAME_STEP, window_fn=hann) * 2 / 3
        stems.append(tf.transpose(stem)[FRAME_LENGTH : FRAME_LENGTH + length])
    return tf.stack(stems)


def spleeters_gradients(model: Any, image: Any, targets: Any, weights: dict[str, Any]) -> dict[str, Any]:
    """Return Spleeter's loss, and its gradients by every weight that it depends on, without dropout."""
    with tf.GradientTape() as tape:
        estimates = [tf.sigmoid(logits) * image for logits in model(image, training=True)]
        loss = sum(
            tf.reduce_mean(tf.abs(estimate - target)) for estimate, target in zip(estimates, targets, strict=True)
        )
    gradients = tape.gradient(loss, weights)
    return {"loss": loss, **{f"gradient/{name}": value for name, value in gradients.items() if value is not None}}


def hann(length: int, dtype: Any) -> Any:
    return tf.signal.hann_window(length, periodic=True, dtype=dtype)


def main() -> None:
    image = (np.random.default_rng(1).uniform(0, 4, (1, T, F, 2))).astype(np.float32)
    audio = np.random.default_rng(2).uniform(-0.5, 0.5, (3900, 2)).astype(np.float32)
    model, weights = make_model("LeakyReLU", "ReLU")
    randomise(weights)
    outputs = {"sigmoid": [tf.sigmoid(logits) for logits in model(image, training=False)]}
    outputs["stems"] = spleeters_separation(model, audio)
    with_elu, its_weights = make_model("ELU", "ELU")
    for name, weight in its_weights.items():
        weight.assign(weights[name])
    outputs["softmax"] = tf.nn.softmax(tf.stack(with_elu(image, training=False)), axis=0)
    kept = {name: np.stack(values)[..., ::EVERY, ::EVERY, :] for name, values in outputs.items() if name != "stems"}
    (HERE / "unet").mkdir(exist_ok=True)
    names = [*weights, "global_step"]
    tensors = [*weights.values(), tf.constant(7, tf.int64)]
    tf.raw_ops.SaveV2(
        prefix=str(HERE / "unet" / "model"), tensor_names=names, shape_and_slices=[""] * len(names), tensors=tensors
    )
    trainable = {name: weight for name, weight in weights.items() if weight.trainable}
    targets = np.random.default_rng(3).uniform(0, 2, (INSTRUMENTS, 1, T, F, 2)).astype(np.float32)
    gradients = spleeters_gradients(model, image, targets, trainable)
    np.savez_compressed(HERE / "outputs.npz", stems=outputs["stems"], **kept, **gradients)
    (HERE / "unet" / "checkpoint").write_text('model_checkpoint_path: "model"\nall_model_checkpoint_paths: "model"\n')


if __name__ == "__main__":
    main()
