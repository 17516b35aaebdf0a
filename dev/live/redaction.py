"""Takes out of recorded traffic whatever could say whose it was.

What may stay is listed here. Everything else is replaced: a name by the same placeholder wherever it stands,
so that a recording still shows that two answers mean one item; a text by its length.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

HOST = "https://management.azure.com"

# Of an answer. The first two are addresses, and are redacted as such.
_ADDRESSES = ("azure-asyncoperation", "location")
_HEADERS = re.compile(
    r"azure-asyncoperation|location|date|retry-after|content-type|content-length|"
    r"x-ms-ratelimit-remaining-[a-z-]+|x-ms-user-quota-[a-z-]+"
)
# What the value of any other may be: a number, a time of day, a date, or a type of content.
_PLAIN_HEADER = re.compile(
    r"-?\d{1,9}|\d\d:\d\d:\d\d|[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT|"
    r"(?:application|text)/(?:json|xml|html|plain)(?:; charset=utf-8)?"
)
_ARGUMENT = re.compile(r"[a-z]|\$?[A-Za-z]{1,20}|api-version")
_VERSION = re.compile(r"\d{4}-\d\d-\d\d(-preview)?")

# Names of fields whose values are words of Azure's, if they have the form of such.
_WORDS = frozenset(
    """
    actionsinfo backupinstancetype backupmanagementtype backuptype code consistency containertype
    copyoptions createmode currentprotectionstate datasourcetype datasourcetypes datastoretype
    destinationdatastorename entitytype errorcode errortitle filespectype healthstatus itemtype jobtype
    lastbackupstatus lastoperationstatus lastrecoverypointtype objecttype odata.type operation
    operationcategory ostype parenttype policystate policytype protectableobjecttype
    protecteditemhealthstatus protecteditemtype protectionstate protectionstatus provisioningstate
    recoverymodel recoverypointconsistency recoverypointstate recoverypointtier recoverypointtype
    recoverytype registrationstatus resourcetype restorepointquerytype restorerequesttype restoretype
    rppolicytype securitytype selectiontype sourcedatastorename sourceresourcetype sourcevmstoragetype
    state status storageaccountversion supportedactions targettype taskid taskname taskstatus tasktype
    threatstatus tiertype triggeroption type validationstatus virtualmachineversion workloadtype
    """.split()  # noqa: SIM905  # a list of so many words is easier to read like this
)
_WORD = re.compile(r"[A-Za-z]+(?:[ ./:(]+[A-Za-z]+\)?)*|\d{1,9}|", re.ASCII)
_LONGEST_WORD = 120
# Fields that hold sentences.
_TEXTS = frozenset(
    """
    description details dynamicerrormessage errormessage errorstring healthdetails lastbackuperrordetails
    message recommendation recommendations recommendedaction taskexecutiondetails title
    """.split()  # noqa: SIM905  # as above
)
# Fields that hold a name or an id, even one that looks like a number.
_NAME_FIELD = re.compile(r"name$|id$", re.IGNORECASE)
# Fields that are dropped whole: they hold what people wrote, or who they are.
_DROPPED = frozenset({"tags", "identity", "systemdata", "resourceguardoperationrequests"})
_SECRET_FIELD = re.compile(r"pass|secret|token|sas|signature|credential|authorization", re.IGNORECASE)
# A field is kept by its name unless that could be somebody's own word.
_FIELD = re.compile(r"[A-Za-z@$][A-Za-z @$._()?/'-]{0,79}", re.ASCII)

_GUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE)
_TIME = re.compile(r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d:\d\d(?:\.\d{1,9})?(?: ?[AP]M)?(?:Z|[+-]\d\d:\d\d)?)?")
_US_TIME = re.compile(r"\d{1,2}/\d{1,2}/\d{4} \d{1,2}:\d\d:\d\d [AP]M")
_DURATION = re.compile(r"-?P[\dYWDTHMS.]{2,30}|-?(?:\d{1,4}\.)?\d\d:\d\d:\d\d(?:\.\d{1,9})?")
_AMOUNT = re.compile(r"-?\d{1,9}(?:\.\d{1,9})?(?: ?%| ?[KMGT]?Bs?)?")
_PLAIN = (_TIME, _US_TIME, _DURATION, _AMOUNT, re.compile(r"|true|false", re.IGNORECASE))

# The first parts of the names of containers and items, which say of which kind they are.
_KINDS = frozenset(
    """
    azurefileshare azurewindowscontainer clusterresources compute iaasvmcontainer iaasvmcontainerv2 sapase
    sapasedatabase saphana saphanadatabase saphanadbinstance saphanasystem sqldatabase sqlinstance
    sqlavailabilitygroupcontainer storage storagecontainer vm vmappcontainer
    """.split()  # noqa: SIM905  # as above
)
_ARM_ID = "/subscriptions/"
_TERM = re.compile(r"([A-Za-z]+) eq '([^']*)'")
# Names in an ARM id that are the same in every subscription.
_FIXED_NAMES = frozenset({"azure", "default"})
_TRY_AGAIN = re.compile(r"try again after '\d{1,6}' seconds", re.IGNORECASE)
_SPLIT = re.compile(r"( \[|\]|;)")


class LeakError(Exception):
    """A secret would have been written. Nothing was."""


class Redaction:
    """One run's redaction: the same original always becomes the same placeholder.

    :param secrets: texts that may stand nowhere in what comes out, for the last check.
    """

    def __init__(self, secrets: tuple[str, ...] = ()) -> None:
        self._secrets = [secret for secret in secrets if secret]
        self._names: dict[str, str] = {}
        self._guids: dict[str, str] = {}
        self._counts: Counter[str] = Counter()

    @property
    def replaced(self) -> dict[str, int]:
        """How many times something was replaced, by what it was."""
        return dict(sorted(self._counts.items()))

    def check(self, text: str) -> str:
        """Return a text that is to be written.

        :raises LeakError: if it contains a secret. The error does not show it.
        """
        folded = text.casefold()
        if any(secret.casefold() in folded for secret in self._secrets):
            raise LeakError("a secret or an id of the connection is left in what would be written")
        return text

    def url(self, url: str) -> str:
        """Return an address without its host, names, ids, and the signatures of its query."""
        parts = urlsplit(url)
        if not unquote(parts.path).casefold().startswith(_ARM_ID):
            return self._text(url)
        query = [
            (key if _ARGUMENT.fullmatch(key) else "<elided>", self._argument(key, value))
            for key, value in parse_qsl(parts.query)
        ]
        text = urlencode(query, quote_via=quote, safe="'<>,:/") if query else ""
        return HOST + quote(self.path(unquote(parts.path)), safe="/;()") + (f"?{text}" if text else "")

    def path(self, path: str) -> str:
        """Return an ARM id or a path with placeholders in place of names.

        Types and names take turns in it. From a type on that does not look like one, all is replaced.
        """
        redacted, expected = [], "type"
        for segment in path.split("/"):
            kept = segment
            if expected == "namespace":
                expected = "type" if _WORD.fullmatch(segment) else "unknown"
            elif expected == "type" and segment.casefold() == "providers":
                expected = "namespace"
            elif expected == "type" and segment:
                expected = "name" if _WORD.fullmatch(segment) else "unknown"
            elif expected == "name":
                kept = segment if segment.casefold() in _FIXED_NAMES else self.name(segment)
                expected = "type"
            redacted.append(self.name(segment) if expected == "unknown" else kept)
        return "/".join(redacted)

    def headers(self, headers: Mapping[str, str]) -> dict[str, str]:
        """Return the headers of an answer that are on the list, names in lower case."""
        kept = {}
        for name, value in ((name.lower(), value) for name, value in headers.items()):
            if not _HEADERS.fullmatch(name):
                self._counts["headers left out"] += 1
            elif name in _ADDRESSES:
                kept[name] = self.url(value)
            elif _PLAIN_HEADER.fullmatch(value):
                kept[name] = value
        return kept

    def body(self, text: str) -> Any:
        """Return a body as JSON without names and texts; other text becomes its length."""
        if not text:
            return ""
        try:
            found = json.loads(text)
        except ValueError:
            return self._text(text)
        return self._value("", found)

    def name(self, name: str) -> str:
        """Return the placeholder of a name. Parts that are separated by semicolons have one each."""
        return "".join(
            part
            if _SPLIT.fullmatch(part) or part.casefold() in _KINDS
            else _GUID.sub(self._guid, part)
            if _GUID.fullmatch(part)
            else self._placeholder(part)
            for part in _SPLIT.split(name)
            if part
        )

    def _placeholder(self, name: str) -> str:
        self._counts["names"] += 1
        found = self._names.setdefault(name.casefold(), f"Name-{len(self._names) + 1}")
        # Azure does not keep the case of names, and a recording should show that.
        return found.lower() if name == name.lower() else found.upper() if name == name.upper() else found

    def _guid(self, found: re.Match[str]) -> str:
        self._counts["ids"] += 1
        return self._guids.setdefault(
            found[0].casefold(), f"00000000-0000-4000-8000-{len(self._guids) + 1:012}"
        )

    def _argument(self, key: str, value: str) -> str:
        if key.casefold() == "api-version" and _VERSION.fullmatch(value):
            return value
        if key == "$filter" and all(terms := [_TERM.fullmatch(term) for term in value.split(" and ")]):
            return " and ".join(f"{term[1]} eq '{self._string(term[1], term[2])}'" for term in terms if term)
        self._counts["arguments of addresses"] += 1
        return "<elided>"

    def _value(self, field: str, value: Any) -> Any:
        if isinstance(value, dict):
            return self._object(value)
        if isinstance(value, list):
            return [self._value(field, each) for each in value]
        if isinstance(value, str):
            return self._string(field, value)
        if isinstance(value, int) and abs(value) > 10**15:
            self._counts["numbers"] += 1
            return 0
        return value

    def _object(self, value: dict[str, Any]) -> dict[str, Any]:
        kept = {}
        for field, each in value.items():
            if field.casefold() in _DROPPED or _SECRET_FIELD.search(field):
                self._counts["fields dropped"] += 1
                continue
            kept[field if _FIELD.fullmatch(field) else self.name(field)] = self._value(field, each)
        return kept

    def _string(self, field: str, value: str) -> str:
        if field.casefold() in _WORDS and _WORD.fullmatch(value) and len(value) <= _LONGEST_WORD:
            return value
        if not _NAME_FIELD.search(field) and any(form.fullmatch(value) for form in _PLAIN):
            return value
        if _GUID.fullmatch(value):
            return _GUID.sub(self._guid, value)
        if value.casefold().startswith(_ARM_ID):
            return self.path(value)
        if value.startswith("https://"):
            return self.url(value)
        if field.casefold() in _TEXTS:
            return self._text(value)
        return self.name(value)

    def _text(self, text: str) -> str:
        """Replace a text by its length. How long to wait after a 429 may stand in its text alone."""
        self._counts["texts"] += 1
        wait = _TRY_AGAIN.search(text)
        return f"<{len(text)} characters>" + (f" {wait[0]}" if wait else "")
