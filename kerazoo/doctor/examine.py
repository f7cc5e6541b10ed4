"""A look at a model and its data before training, in words.

Everything that makes training fail late, or succeed at the wrong thing, shows in the first batches: this looks at a few
of them, shows two images to the model, tries the losses on what it says, and reports what to change.
"""

from dataclasses import replace
from typing import Any

import keras

from kerazoo.doctor import image_checks, loss_checks, model_checks, target_checks
from kerazoo.doctor.findings import Finding, Report, error, note
from kerazoo.doctor.looking import Seen, look
from kerazoo.doctor.subject import ask, compiled, with_compiled

__all__ = ["Finding", "Report", "doctor"]


def doctor(
    model: keras.Model, dataset: Any, *, batches: int = 8, batch_size: int | None = None, verbose: bool = True
) -> Report:
    """Find what is wrong before training starts, and print it with what to change.

    ```python
    model.compile("adam", loss=kz.losses.CrossEntropy(), metrics=[kz.metrics.IoU(1)])
    kz.doctor(model, batches).raise_for_errors()
    ```

    It finds, among others: a sigmoid or softmax applied twice, or not at all; ids outside of the classes, masks that
    are one-hot, fractional, of another size or all empty; losses that leave out the empty images; images in another
    range than the preprocessing expects, with NaN, constant or doubled; losses, metrics and targets that belong to
    another output; missing sample weights; parts that are frozen although they are random; learning rates, precisions
    and batch sizes that do not work.

    The model stays as it is (weights, statistics, optimizer, compilation, random state), and so does the dataset,
    except that a generator is some batches further, and that a dataset that shuffles by itself has done so once.

    Args:
        model: A built and compiled model of any kind; best one of `kerazoo.segmenter`.
        dataset: What `fit` takes: a `tf.data.Dataset`, `(images, masks)` arrays, a `keras.utils.PyDataset`, a torch
            `DataLoader`, a generator of batches, or a function that makes one.
        batches: Batches to look at, at most.
        batch_size: Images of a batch where `dataset` are arrays; None for 32, as in `fit`.
        verbose: Print the report. Without, a notebook shows it as a table.

    Returns: the report: its `findings` (severity, code, message, fix), `ok`, and `raise_for_errors()`.

    Raises:
        TypeError: `model` is no Keras model, or `dataset` is not one of these.
        ValueError: `batches` or `batch_size` is not positive.
    """
    if not isinstance(model, keras.Model):
        raise TypeError(f"`model` must be a keras.Model, received {type(model).__name__}.")
    if batches < 1 or (batch_size is not None and batch_size < 1):
        raise ValueError(f"`batches` and `batch_size` must be 1 or more, received {batches} and {batch_size}.")
    seen = look(dataset, batches=batches, batch_size=batch_size)
    report = Report.of(_examine(model, seen), batches=seen.batches, images=seen.number)
    if verbose:
        print(report)
    return report


def _examine(model: keras.Model, seen: Seen) -> list[Finding]:
    if not model.built:
        fix = "Call it on a batch of images once, or build it from keras.Input."
        return [error("not-built", "the model has no weights yet, so that nothing can be said of it.", fix)]
    shape = [*image_checks.check_shape(model, seen)]
    findings = [
        *model_checks.check_compiled(model),
        *model_checks.check_trainable(model),
        *model_checks.check_batchnorm(model, seen),
        *model_checks.check_precision(model),
        *model_checks.check_learning_rate(model),
        *shape,
        *image_checks.check_values(seen),
        *image_checks.check_range(model, seen),
    ]
    usable = not shape and seen.images and not seen.images[0].broken
    outputs, fault = ask(model, seen.first if usable else None)
    if fault is not None:
        fix = "Change what the batches give as inputs, or the input of the model, so that model(images) works."
        findings.append(error("model-fails", f"the model cannot be called on the images: {fault}", fix))
    found = compiled(model, outputs)
    outputs = with_compiled(outputs, found)
    if found.losses or found.unnamed or found.strange:
        findings += loss_checks.check_names(outputs, found)
    structure = [*target_checks.check_structure(outputs, seen)]
    findings += structure
    if shape:
        seen = replace(seen, images=[])  # targets cannot be compared with them
    for output in outputs:
        mine = [
            *loss_checks.check_activation(output),
            *loss_checks.check_weights(output, seen),
            *([] if structure else target_checks.check_targets(output, seen)),
        ]
        findings += [*mine, *loss_checks.check_values(output)]
        if not structure and not any(finding.severity == "error" for finding in mine):
            findings += loss_checks.check_loss(output, seen)
            findings += loss_checks.check_metrics(output, seen)
    if seen.consumed:
        message = f"the look took {seen.batches} batches out of the generator."
        findings.append(
            note("generator-used", message, "Give fit a new one; or pass a function that makes generators.")
        )
    return findings
