"""The examination of a model and its data before training.

Whatever makes training fail late, or succeed at the wrong thing, shows in the first batches: this inspects a few of
them, calls the model on two images, tries the losses on its outputs, and reports what to change.
"""

from dataclasses import replace
from typing import Any

import keras

from kerazoo.doctor import image_checks, loss_checks, model_checks, target_checks
from kerazoo.doctor.batches import inspect_batches
from kerazoo.doctor.compiled import read_compiled
from kerazoo.doctor.facts import DatasetFacts
from kerazoo.doctor.outputs import call_on_examples
from kerazoo.findings import Finding, Report, error, note


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
    facts = inspect_batches(dataset, batches=batches, batch_size=batch_size)
    report = Report.of(_examine(model, facts), batches=facts.num_batches, images=facts.num_images)
    if verbose:
        print(report)
    return report


def _examine(model: keras.Model, dataset: DatasetFacts) -> list[Finding]:
    if not model.built:
        fix = "Call it on a batch of images once, or build it from keras.Input."
        return [error("not-built", "the model has no weights yet, so that nothing can be said of it.", fix)]
    shape = [*image_checks.check_shape(model, dataset)]
    findings = [
        *model_checks.check_compiled(model),
        *model_checks.check_trainable(model),
        *model_checks.check_batchnorm(model, dataset),
        *model_checks.check_precision(model),
        *model_checks.check_learning_rate(model),
        *shape,
        *image_checks.check_values(dataset),
        *image_checks.check_range(model, dataset),
    ]
    usable = not shape and dataset.images and not dataset.images[0].not_finite
    outputs, failure = call_on_examples(model, dataset.first_batch if usable else None)
    if failure is not None:
        fix = "Change what the batches give as inputs, or the input of the model, so that model(images) works."
        findings.append(error("model-fails", f"the model cannot be called on the images: {failure}", fix))
    compiled = read_compiled(model, [output.name for output in outputs])
    outputs = tuple(
        replace(output, terms=compiled.losses.get(output.name, ()), metrics=compiled.metrics.get(output.name, ()))
        for output in outputs
    )
    if compiled.losses or compiled.ambiguous or compiled.unknown:
        findings += loss_checks.check_names(outputs, compiled)
    structure = [*target_checks.check_structure(outputs, dataset)]
    findings += structure
    if shape:
        dataset = replace(dataset, images=[])  # targets cannot be compared with them
    for output in outputs:
        of_output = [
            *loss_checks.check_activation(output),
            *loss_checks.check_weights(output, dataset),
            *([] if structure else target_checks.check_targets(output, dataset)),
        ]
        findings += [*of_output, *loss_checks.check_values(output)]
        if not structure and not any(finding.severity == "error" for finding in of_output):
            findings += loss_checks.check_loss(output, dataset)
            findings += loss_checks.check_metrics(output, dataset)
    if dataset.is_consumed:
        message = f"the look took {dataset.num_batches} batches out of the generator."
        findings.append(
            note("generator-used", message, "Give fit a new one; or pass a function that makes generators.")
        )
    return findings
