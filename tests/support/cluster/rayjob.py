"""The parts of KubeRay's RayJob (ray.io/v1) that clusters/kuberay.yaml uses, strict: any other field is refused.

Written after KubeRay's API reference of v1.6.2 (docs/reference/api.md, generated from the Go types that the CRD is made
of) and, for pods, the CRD's own schema (ray-operator/config/crd/bases/ray.io_rayjobs.yaml) and Kubernetes' PodSpec.
What we do not use is left out: a field that becomes needed is to be looked up there and added here.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from pydantic.alias_generators import to_camel

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=63)]
Count = Annotated[int, Field(ge=0, le=2**31 - 1, strict=True)]
QUANTITY = r"^(\+|-)?([0-9]+(\.[0-9]*)?|\.[0-9]+)([KMGTPE]i|[numkMGTPE]|[eE](\+|-)?[0-9]+)?$"
Text = Annotated[str, Field(strict=True)]
Quantity = Annotated[str, StringConstraints(pattern=QUANTITY, strict=True)] | Annotated[int, Field(strict=True)]


class Part(BaseModel):
    """One object of the manifest, where its fields are written in camelCase."""

    model_config = ConfigDict(extra="forbid", alias_generator=to_camel)


class FieldRef(Part):
    field_path: Text


class ValueFrom(Part):
    field_ref: FieldRef


class EnvVar(Part):
    name: Text
    value: Text | None = None
    value_from: ValueFrom | None = None


class Resources(Part):
    requests: dict[str, Quantity]
    limits: dict[str, Quantity]


class Container(Part):
    name: Name
    image: Text
    env: list[EnvVar] = []
    resources: Resources


class PodSpec(Part):
    service_account_name: Name
    automount_service_account_token: Annotated[bool, Field(strict=True)] | None = None
    node_selector: dict[str, Text] = {}
    containers: Annotated[list[Container], Field(min_length=1)]


class Template(Part):
    spec: PodSpec


class HeadGroup(Part):
    ray_start_params: dict[str, Text]
    template: Template


class WorkerGroup(Part):
    group_name: Name
    replicas: Count = 0
    min_replicas: Count = 0
    max_replicas: Count
    ray_start_params: dict[str, Text]
    template: Template


class AuthOptions(Part):
    mode: Literal["disabled", "token"]
    secret_name: Name | None = None


class AutoscalerOptions(Part):
    idle_timeout_seconds: Count
    version: Literal["v1", "v2"] | None = None
    upscaling_mode: Literal["Default", "Aggressive", "Conservative"] | None = None


class RayClusterSpec(Part):
    ray_version: Text
    auth_options: AuthOptions
    enable_in_tree_autoscaling: bool
    autoscaler_options: AutoscalerOptions
    head_group_spec: HeadGroup
    worker_group_specs: list[WorkerGroup]


class RayJobSpec(Part):
    entrypoint: Text
    runtime_env_yaml: Annotated[Text, Field(alias="runtimeEnvYAML")]
    shutdown_after_job_finishes: bool
    ttl_seconds_after_finished: Count
    backoff_limit: Count
    ray_cluster_spec: RayClusterSpec


class Metadata(Part):
    name: Name


class RayJob(Part):
    api_version: Literal["ray.io/v1"]
    kind: Literal["RayJob"]
    metadata: Metadata
    spec: RayJobSpec
