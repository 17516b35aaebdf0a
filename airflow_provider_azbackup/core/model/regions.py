"""The pairs of Azure's regions: where a Recovery Services vault keeps the second copy of its backups.

Azure does not say it of such a vault, and Microsoft's clients keep a table as well. Newer regions have no
pair.

Source: https://learn.microsoft.com/azure/reliability/regions-paired
"""

from __future__ import annotations

from types import MappingProxyType

# Each of these keeps its copies in the other one.
_PAIRS = (
    ("australiacentral", "australiacentral2"),
    ("australiaeast", "australiasoutheast"),
    ("canadacentral", "canadaeast"),
    ("centralindia", "southindia"),
    ("centralus", "eastus2"),
    ("centraluseuap", "eastus2euap"),
    ("chinaeast", "chinanorth"),
    ("chinaeast2", "chinanorth2"),
    ("chinaeast3", "chinanorth3"),
    ("eastasia", "southeastasia"),
    ("eastus", "westus"),
    ("francecentral", "francesouth"),
    ("germanynorth", "germanywestcentral"),
    ("japaneast", "japanwest"),
    ("jioindiacentral", "jioindiawest"),
    ("koreacentral", "koreasouth"),
    ("northcentralus", "southcentralus"),
    ("northeurope", "westeurope"),
    ("norwayeast", "norwaywest"),
    ("southafricanorth", "southafricawest"),
    ("swedencentral", "swedensouth"),
    ("switzerlandnorth", "switzerlandwest"),
    ("uaecentral", "uaenorth"),
    ("uksouth", "ukwest"),
    ("usdodcentral", "usdodeast"),
    ("usgovarizona", "usgovtexas"),
    ("westcentralus", "westus2"),
)
# These keep their copies in a region that does not keep its own copies in them.
_ONE_WAY = {
    "brazilsouth": "southcentralus",
    "brazilsoutheast": "brazilsouth",
    "usgoviowa": "usgovvirginia",
    "usgovvirginia": "usgovtexas",
    "westindia": "southindia",
    "westus3": "eastus",
}
PAIRED = MappingProxyType({**dict(_PAIRS), **{second: first for first, second in _PAIRS}, **_ONE_WAY})


def paired_region(region: str) -> str:
    """Return the region that keeps the copies of a region; an empty text if none is known.

    :param region: such as ``eastus`` or, as some of Azure's answers write it, ``East US``.
    """
    return PAIRED.get(region.replace(" ", "").casefold(), "")
