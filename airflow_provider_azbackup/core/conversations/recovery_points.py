"""Conversations about recovery points: read one, list them, wait until one has reached a tier.

Source: https://learn.microsoft.com/rest/api/backup/recovery-points/list
"""

from __future__ import annotations

from dataclasses import replace
from itertools import chain, repeat
from typing import Unpack

from airflow_provider_azbackup.core.conversations.items import get_data_source
from airflow_provider_azbackup.core.conversations.retry import (
    Patience,
    accepted,
    all_pages,
    ask,
    spread_pause,
)
from airflow_provider_azbackup.core.model.recovery_points import RecoveryPoint
from airflow_provider_azbackup.core.model.resources import BackupInstance, ProtectedItem
from airflow_provider_azbackup.core.model.workloads import TIERS, check_min_tier
from airflow_provider_azbackup.core.rest import requests, responses
from airflow_provider_azbackup.core.rest.requests import is_between
from airflow_provider_azbackup.core.wire import RESPONSE_GRACE, Flow
from airflow_provider_azbackup.exceptions import (
    AzureBackupError,
    AzureBackupNotFoundError,
    AzureBackupTimeoutError,
)


def list_recovery_points(
    item: ProtectedItem, **wanted: Unpack[requests.RecoveryPointFilter]
) -> Flow[list[RecoveryPoint]]:
    """Return an item's recovery points, from all pages.

    :param wanted: what the list is narrowed by. A Backup vault lists everything, so it is applied here.
    """
    pages = yield from all_pages(requests.list_recovery_points(item, **wanted))
    points = [point for page in pages for point in responses.read_recovery_points(item, page)]
    if not item.vault.is_backup_vault:
        return points
    return [point for point in points if is_between(point.time, wanted.get("after"), wanted.get("before"))]


def get_recovery_point(item: ProtectedItem, point_id: str) -> Flow[RecoveryPoint]:
    """Return one recovery point.

    :raises AzureBackupNotFoundError: if the item has no recovery point with that id.
    """
    if region := item.vault.secondary:  # which only lists them; Microsoft's CLI looks one up likewise
        for point in (yield from list_recovery_points(item)):
            if point.point_id.casefold() == point_id.casefold():
                return point
        raise AzureBackupNotFoundError(f"{region.name} lists no recovery point {point_id!r} of {item.label}")
    return responses.read_recovery_point(
        item, (yield from ask(requests.get_recovery_point(item, point_id))), point_id
    )


def find_restorable_ranges(instance: BackupInstance) -> Flow[RecoveryPoint]:
    """Return one entry with the ranges of time to which a backup instance can be restored."""
    return responses.read_ranges(instance, (yield from ask(requests.find_restorable_ranges(instance))))


def check_tier(item: ProtectedItem, min_tier: str | None, *, on_demand: bool) -> Flow[None]:
    """Reject a tier that no recovery point of an item can reach.

    :param item: what is backed up.
    :param min_tier: a word of :data:`~airflow_provider_azbackup.core.model.workloads.TIERS`, or None.
    :param on_demand: whether the recovery point comes from an on-demand backup.
    :raises AzureBackupConfigError: if a wait for the tier could never end.
    """
    if min_tier != TIERS[-1]:
        return
    workload = item.workload
    if isinstance(item, BackupInstance):
        workload = (yield from get_data_source(item)).workload
    check_min_tier(workload, item.label, min_tier, on_demand=on_demand)


def wait_for_tier(
    point: RecoveryPoint, min_tier: str, *, since: float, deadline: float
) -> Flow[RecoveryPoint]:
    """Read one recovery point again until it has reached a tier, and return it as it is then.

    It is also returned once Azure marks it as deleted, expired, partial or infected, because it cannot
    recover from that. Check the returned one with :meth:`RecoveryPoint.shortcoming`.

    :param point: the recovery point. Only this one counts, not a newer one.
    :param min_tier: a word of :data:`~airflow_provider_azbackup.core.model.workloads.TIERS`.
    :param since: Unix time at which the wait begins.
    :param deadline: Unix time of the last read.
    :raises AzureBackupTimeoutError: if it has not reached the tier at the deadline.
    :raises AzureBackupError: if another read cannot help, for example because the recovery point is gone.
    """
    request = replace(
        requests.get_recovery_point(point.item, point.point_id), deadline=deadline + RESPONSE_GRACE
    )
    patience, at = Patience(since), since
    for interval in chain((30.0, 60.0, 120.0), repeat(300.0)):
        if point.has_reached(min_tier) or point.is_deleted or point.is_expired or point.damage:
            return point
        pause = spread_pause(interval, patience.fault)
        answer = yield request.delayed(min(pause, max(0.0, deadline - at)))
        at = answer.at
        try:
            seen = responses.read_recovery_point(point.item, accepted(answer, request, 200), point.point_id)
            point = replace(seen, expiry=seen.expiry or point.expiry)
            patience.record_success()
        except AzureBackupError as error:
            patience.record_failure(error, at)
        if at >= deadline and not point.has_reached(min_tier):
            break
    raise AzureBackupTimeoutError(
        f"{point} is not in {min_tier} after {at - since:.0f} s"
        f"{f' (last read: {patience.fault})' if patience.fault else ''}"
    )
