"""What makes a restore fail: the check of a restore reports it, and a restore that is started fails with it.

Codes that no public source shows are the emulator's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Obstacle:
    """Something that makes a restore fail. ``is_known`` says whether Azure's specification or a recorded
    response shows the code.
    """

    code: str
    message: str
    recommendation: str
    is_known: bool = False

    @property
    def words(self) -> dict[str, object]:
        """The entry of a check in a Recovery Services vault."""
        return {"code": self.code, "message": self.message, "recommendations": [self.recommendation]}


OBSTACLES: Mapping[str, Obstacle] = {
    "quota": Obstacle(
        code="UserErrorCoreCountSubscriptionQuotaReached",
        message="Core Count subscription quota has been reached.",
        recommendation="Contact Azure support to increase the limits.",
        is_known=True,
    ),
    "permission": Obstacle(
        code="UserErrorDiskAndSnapshotRGOrMSIPermissionsNotPresent",
        message="Could not perform the operation as Azure Backup Service requires additional permissions.",
        recommendation="Grant the permissions to the managed identity of the vault.",
        is_known=True,
    ),
    "account": Obstacle(
        code="UserErrorBCMRestoreStorageAccountNotFound",
        message="The storage account for the restore was not found.",
        recommendation="Check that the storage account exists.",
        is_known=True,
    ),
    "firewall": Obstacle(
        code="UserErrorStorageAccountNotReachable",
        message="The firewall of the storage account does not let Azure Backup in.",
        recommendation="Allow trusted services of Azure on the storage account.",
    ),
    "subnet": Obstacle(
        code="UserErrorRestoreSubnetNotFound",
        message="The subnet for the restored virtual machine was not found.",
        recommendation="Choose a subnet of the virtual network.",
    ),
    "group": Obstacle(
        code="UserErrorRestoreResourceGroupNotFound",
        message="The target resource group was not found.",
        recommendation="Create the resource group.",
    ),
    "name": Obstacle(
        code="UserErrorRestoreTargetAlreadyExists",
        message="A resource of the target's name already exists.",
        recommendation="Choose another name.",
    ),
    "region": Obstacle(
        code="UserErrorRestoreRegionNotSupported",
        message="The recovery point cannot be restored to this region.",
        recommendation="Choose the region of the vault.",
    ),
    "archive": Obstacle(
        code="UserErrorRecoveryPointInArchive",
        message="The recovery point is in the archive tier.",
        recommendation="Bring it back from the archive first.",
    ),
    "infected": Obstacle(
        code="UserErrorRecoveryPointUnhealthy",
        message="Malware was found in the recovery point.",
        recommendation="Choose a recovery point from before the attack.",
    ),
    "expired": Obstacle(
        code="UserErrorRecoveryPointExpired",
        message="The recovery point has expired.",
        recommendation="Choose a newer recovery point.",
    ),
    "deleted": Obstacle(
        code="UserErrorRestoreOfSoftDeletedItem",
        message="The backup data of the item is in the soft-deleted state.",
        recommendation="Undelete the item.",
    ),
}
