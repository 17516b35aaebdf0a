"""What Airflow reads about the provider is valid, leads to classes that exist, and fits the hook."""

from __future__ import annotations

import importlib
import json
import sys
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

import airflow
import jsonschema
import pytest

from airflow_provider_azbackup import __version__
from airflow_provider_azbackup.core.settings import CLOUDS, EXTRAS, Settings
from airflow_provider_azbackup.get_provider_info import get_provider_info
from airflow_provider_azbackup.hooks import AzureBackupHook

AIRFLOW = Path(airflow.__path__[0])
INFO = get_provider_info()
(CONNECTION,) = INFO["connection-types"]
# What a connection holds outside its extra; the form shows these unless it has to hide them.
STANDARD_FIELDS = {"host", "schema", "login", "password", "port", "extra", "description"}


def schema(name: str) -> Any:
    return json.loads((AIRFLOW / name).read_text())


def imported(path: str) -> Any:
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


def test_the_provider_info_is_valid_by_airflows_own_schema() -> None:
    jsonschema.validate(INFO, schema("provider_info.schema.json"))


def hook_gives_the_form() -> bool:
    """Whether this is an Airflow below 3.2, which does not read the form in the provider info."""
    connection_types = schema("provider.yaml.schema.json")["properties"]["connection-types"]
    return "conn-fields" not in connection_types["items"]["properties"]


def test_the_connection_form_is_valid_by_the_schema_of_airflow_3_2_and_later() -> None:
    if hook_gives_the_form():
        pytest.skip("Airflow below 3.2 asks the hook for the form, and has no schema for it")
    whole = schema("provider.yaml.schema.json")
    form = whole["properties"]["connection-types"]
    jsonschema.validate(INFO["connection-types"], {**form, "definitions": whole.get("definitions", {})})


def test_airflow_finds_the_provider_by_its_entry_point() -> None:
    (found,) = [
        each
        for each in entry_points(group="apache_airflow_provider")
        if each.module.startswith("airflow_provider_azbackup")
    ]
    assert found.load()() == INFO
    assert INFO["package-name"] == "airflow-provider-azbackup"
    assert INFO["versions"] == [__version__]


def test_every_class_and_module_it_names_can_be_imported() -> None:
    from airflow.providers.common.compat.sdk import BaseHook, BaseOperatorLink

    assert issubclass(imported(CONNECTION["hook-class-name"]), BaseHook)
    links = [imported(path) for path in INFO["extra-links"]]
    assert len(links) == 2
    assert all(issubclass(link, BaseOperatorLink) for link in links)
    for kind in ("hooks", "operators", "sensors", "triggers"):
        (integration,) = INFO[kind]
        assert integration["integration-name"] == INFO["integrations"][0]["integration-name"]
        for module in integration["python-modules"]:
            assert vars(importlib.import_module(module))


def test_every_link_an_operator_carries_is_announced_to_the_ui() -> None:
    """A link that is missing in the provider info is not shown: the API server does not load operators."""
    from airflow_provider_azbackup.operators import AzureBackupOperator
    from airflow_provider_azbackup.sensors import AzureBackupJobSensor

    for operator in (AzureBackupOperator, AzureBackupJobSensor):
        carried = {
            f"{type(link).__module__}.{type(link).__qualname__}" for link in operator.operator_extra_links
        }
        assert carried == set(INFO["extra-links"])


def read(**extra: str) -> Settings:
    """A connection's settings; a certificate or a tenant also needs the rest of a service principal."""
    principal = {"certificate_path", "tenant_id"} & extra.keys()
    login, rest = ("client", {"tenant_id": "t", "certificate_path": "c.pem"}) if principal else (None, {})
    return Settings.read("conn", login=login, password=None, extra={**rest, **extra})


@pytest.mark.parametrize("field", CONNECTION["conn-fields"])
def test_every_field_of_the_form_changes_what_the_hook_does(field: str) -> None:
    values = {
        "cloud_environment": ("AzurePublicCloud", "AzureChinaCloud"),
        "vault_type": ("RecoveryServices", "DataProtection"),
        "scope": ("https://one.test/.default", "https://other.test/.default"),
        "resource_graph": ("true", "false"),
    }
    one, other = values.get(field, ("https://one.test", "https://other.test"))
    assert read(**{field: one}) != read(**{field: other})


def test_the_form_offers_every_extra_that_the_hook_reads_but_four_that_hardly_anybody_sets() -> None:
    left_out = {"authority", "api_version", "guard_tenant_id", "job_read_share"}
    assert set(EXTRAS) - set(CONNECTION["conn-fields"]) == left_out
    assert set(CONNECTION["conn-fields"]) <= set(EXTRAS)


def test_the_form_offers_exactly_the_clouds_the_hook_knows() -> None:
    offered = CONNECTION["conn-fields"]["cloud_environment"]["schema"]["enum"]
    assert offered == [*CLOUDS]


def test_a_drop_down_list_of_the_form_starts_at_what_an_empty_connection_means() -> None:
    """Airflow shows and saves "null" for a list without a default."""
    lists = {
        name: field["schema"]
        for name, field in CONNECTION["conn-fields"].items()
        if "enum" in field["schema"]
    }
    assert {*lists} == {"vault_type", "cloud_environment", "resource_graph"}
    assert read(**{name: schema["default"] for name, schema in lists.items()}) == read()
    assert all(None not in schema["enum"] for schema in lists.values())


def test_every_field_of_the_form_may_stay_as_it_is() -> None:
    """Nothing is required: a form that is only half filled must be saved, and the rest comes from a task."""
    for name, field in CONNECTION["conn-fields"].items():
        jsonschema.validate(field["schema"].get("default"), field["schema"])
        assert field["label"] and field["description"].endswith("."), name


def test_the_port_stays_visible_because_the_test_button_needs_one() -> None:
    behaviour = CONNECTION["ui-field-behaviour"]
    assert "port" not in behaviour["hidden-fields"]
    assert {"login", "password"} & set(behaviour["hidden-fields"]) == set()
    assert set(behaviour["hidden-fields"]) <= STANDARD_FIELDS


def test_both_forms_of_the_field_behaviour_say_the_same() -> None:
    old = AzureBackupHook.get_ui_field_behaviour()
    jsonschema.validate(old, schema("customized_form_field_behaviours.schema.json"))
    assert {name.replace("_", "-"): value for name, value in old.items()} == CONNECTION["ui-field-behaviour"]


def test_airflow_shows_our_form_under_our_name_without_a_complaint(caplog: pytest.LogCaptureFixture) -> None:
    from airflow.providers_manager import ProvidersManager

    manager = ProvidersManager()
    manager.initialize_providers_hooks()
    # The public properties import the hooks of every provider that is installed, so look at what they hide.
    hook = manager._hooks_lazy_dict["azure_backup"]
    assert hook is not None
    assert hook.connection_testable
    assert hook.hook_name == "Azure Backup"
    assert hook.package_name == "airflow-provider-azbackup"
    assert hook.connection_id_attribute_name == "azure_backup_conn_id"
    if hook_gives_the_form():  # which Airflow 3.0 and 3.1 read without it on their page alone, or not at all
        pytest.importorskip("flask_appbuilder", reason="the rest is seen by tests/releases/test_wheel.py")
    widgets, behaviours = manager._connection_form_widgets, manager._field_behaviours
    prefix = "extra__azure_backup__"
    shown = {name.removeprefix(prefix) for name in widgets if name.startswith(prefix)}
    assert shown == set(CONNECTION["conn-fields"])
    assert behaviours["azure_backup"]["relabeling"]["password"] == "Client secret"
    assert [each.getMessage() for each in caplog.records if "azure_backup" in each.getMessage()] == []


@pytest.fixture
def form_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    """The libraries of Airflow's form below 3.2: the real ones, or else stand-ins as Airflow 3.0 has them."""

    class StringField:
        def __init__(self, label: str, *, widget: Any, description: str) -> None:
            self.label, self.widget, self.description = label, widget, description

    stand_ins: dict[str, dict[str, Any]] = {
        "wtforms": {"StringField": StringField},
        "flask_babel": {"lazy_gettext": str},
        "flask_appbuilder": {},
        "flask_appbuilder.fieldwidgets": {"BS3TextFieldWidget": object},
    }
    for name, content in stand_ins.items():
        try:
            importlib.import_module(name)
        except ModuleNotFoundError:
            module = ModuleType(name)
            vars(module).update(content)
            monkeypatch.setitem(sys.modules, name, module)


def test_the_hook_offers_the_same_form_to_airflow_below_3_2(form_libraries: None) -> None:
    from wtforms import StringField

    widgets = AzureBackupHook.get_connection_form_widgets()
    assert list(widgets) == list(CONNECTION["conn-fields"])
    assert all(getattr(widget, "field_class", type(widget)) is StringField for widget in widgets.values())


def test_the_hook_names_the_connection_as_the_provider_info_does() -> None:
    assert CONNECTION["connection-type"] == AzureBackupHook.conn_type
    assert CONNECTION["hook-name"] == AzureBackupHook.hook_name
    assert (
        AzureBackupHook().azure_backup_conn_id == AzureBackupHook.default_conn_name == "azure_backup_default"
    )
