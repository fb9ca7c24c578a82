"""Stands in for `tests/exporters/test_export.py`, which the source distribution of transformers lacks."""

import copy
from typing import Any

import torch
from transformers.exporters.exporter_dynamo import DynamoConfig, DynamoExporter


class ExportTesterMixin:
    """Test that `torch.export` of every class, by transformers' exporter, gives the model's outputs."""

    model_tester: Any
    all_model_classes: Any
    test_torch_exportable = True

    def _check_export(self, dynamic: bool) -> None:
        for model_class in self.all_model_classes:
            config, inputs = self.model_tester.prepare_config_and_inputs_for_common()
            model = model_class(config).eval()
            inputs = self._prepare_for_class(inputs, model_class)  # type: ignore[attr-defined]
            expected = model(**inputs)
            exported = DynamoExporter().export(model, copy.deepcopy(inputs), config=DynamoConfig(dynamic=dynamic))
            torch.testing.assert_close(exported(**inputs)[0], expected[0])

    def test_export_static(self) -> None:
        self._check_export(dynamic=False)

    def test_export_dynamic(self) -> None:
        self._check_export(dynamic=True)
