"""Commands about data instances: making, tagging, syncing, naming, hiding them."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from dvid_es.codecs import gojson
from dvid_es.commands import Context, Decision, Outcome, fixed_instance
from dvid_es.errors import InvalidRequest
from dvid_es.projections.catalog import Instance, Repo, instance_key
from dvid_es.repos.commands import check_passcode, check_there
from dvid_es.repos.events import (
    InstanceCreated,
    InstanceDeleted,
    InstancePurged,
    InstanceRenamed,
    InstanceRestored,
    InstanceSyncsSet,
    InstanceTagsSet,
)
from dvid_es.repos.versioning import addressed

RESERVED = frozenset({"log", "branch", "note", "commit", "newversion"})
ROWS_PER_PURGE = 50_000
_NO_NAME = re.compile(r"[\x00-\x1f/\x7f]")


def check_name(repo: Repo, name: str) -> None:
    """Refuse the name of a new instance.

    Raises:
        InvalidRequest: it is reserved, in use, or no request could say it.
    """
    if name in RESERVED:
        raise InvalidRequest(f'cannot use reserved name "{name}"')
    if name in repo.names:
        raise InvalidRequest(f'Data named "{name}" already exists in repo (root {repo.root})')
    if not name or len(name) > 500 or _NO_NAME.search(name):
        raise InvalidRequest(
            "a data instance has a name of 1 to 500 characters, without / and control characters"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateInstance:
    """Make a data instance; its configuration is parsed already."""

    name: str
    typename: str
    data_uuid: str
    compression: str
    checksum: str
    versioned: bool = True
    tags: dict[str, str] | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    shown: str = ""
    """The configuration, for the log of the repository."""

    unlocked: bool = False

    def decide(self, context: Context) -> Decision:
        """Return the event."""
        version = addressed(context)
        if version.locked and not self.unlocked:
            raise InvalidRequest(
                f"New data instance cannot be created on locked node {version.uuid}"
            )
        check_name(context.repo, self.name)
        number = max(context.repo.instances, default=0) + 1
        created = InstanceCreated(
            id=number,
            name=self.name,
            typename=self.typename,
            data_uuid=self.data_uuid,
            compression=self.compression,
            checksum=self.checksum,
            versioned=self.versioned,
            tags=self.tags,
            settings=self.settings,
            line=f'New data instance "{self.name}" of type "{self.typename}"'
            f" with config {{{self.shown}}}",
        )
        result = f"Added {self.name} [{self.typename}] to node {version.uuid}"
        answer = f'{{"result": {gojson.string(result)}}}'.encode()
        return Decision((Outcome(event=created, instance=number),), answer)


@dataclass(frozen=True, slots=True, kw_only=True)
class SetTags:
    """Add tags to an instance, or replace all of them."""

    tags: Mapping[str, str]
    replace: bool = False

    def decide(self, context: Context) -> Decision:
        """Return the event, or none if nothing would change."""
        instance = fixed_instance(context)
        tags = dict(self.tags) if self.replace else {**(instance.tags or {}), **self.tags}
        if tags == instance.tags:
            return Decision(())
        return Decision((Outcome(event=InstanceTagsSet(tags=tags)),))


@dataclass(frozen=True, slots=True, kw_only=True)
class SetSyncs:
    """Have an instance listen to others, by name."""

    names: tuple[str, ...]
    allowed: frozenset[str]
    """Names of the datatypes that it can listen to; "*" is any."""

    partner: Callable[[Instance, Instance], str] = lambda *_: ""
    """Says why it cannot listen to another one of these."""

    replace: bool = False

    def decide(self, context: Context) -> Decision:
        """Return the event, or none if nothing would change."""
        instance = fixed_instance(context)
        wanted = [self._partner(context.repo, instance, name) for name in self.names]
        earlier = () if self.replace else instance.syncs
        syncs = tuple(dict.fromkeys((*earlier, *wanted)))
        if syncs == instance.syncs:
            return Decision(())
        instances = context.repo.instances
        shown = " ".join(f"{instances[number].data_uuid}:{{}}" for number in syncs)
        line = f'Data instance "{instance.name}" set to sync with map[{shown}]'
        return Decision((Outcome(event=InstanceSyncsSet(syncs=syncs, line=line)),))

    def _partner(self, repo: Repo, instance: Instance, name: str) -> int:
        """Return the number of an instance to listen to."""
        partner = repo.names.get(name)
        if partner is None:
            raise InvalidRequest(
                f'issue with requested sync name "{name}": invalid data instance name'
            )
        if partner.id == instance.id:
            raise InvalidRequest(f'data "{name}" cannot be synced with itself')
        if not self.allowed & {partner.typename, "*"}:
            raise InvalidRequest(
                f'data "{instance.name}" of type {instance.typename} cannot be synced with'
                f' "{name}" of type {partner.typename}, only with {", ".join(sorted(self.allowed))}'
            )
        if problem := self.partner(instance, partner):
            raise InvalidRequest(problem)
        return partner.id


def _named(repo: Repo, name: str) -> Instance:
    found = repo.names.get(name)
    if found is None:
        raise InvalidRequest(f'invalid data instance name "{name}"')
    return found


def deleted_instance(repo: Repo, name: str) -> Instance:
    """Return the deleted instance with this data UUID, or the last one with this name.

    Raises:
        InvalidRequest: there is none.
    """
    deleted = [item for item in repo.instances.values() if item.deleted]
    found = [item for item in deleted if name in (item.name, item.data_uuid)]
    if not found:
        raise InvalidRequest(f'there is no deleted data instance "{name}"')
    return max(found, key=lambda item: (item.data_uuid == name, item.id))


@dataclass(frozen=True, slots=True, kw_only=True)
class RenameInstance:
    """Give an instance another name; data and data UUID stay."""

    old: str
    new: str
    passcode: str = ""

    def decide(self, context: Context) -> Decision:
        """Return the event."""
        check_there(context)
        instance = _named(context.repo, self.old)
        check_passcode(context, self.passcode)
        check_name(context.repo, self.new)
        return Decision((Outcome(event=InstanceRenamed(name=self.new), instance=instance.id),))


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteInstance:
    """Hide an instance; nothing is lost."""

    name: str
    passcode: str = ""

    def decide(self, context: Context) -> Decision:
        """Return the event."""
        check_there(context)
        instance = _named(context.repo, self.name)
        check_passcode(context, self.passcode)
        return Decision((Outcome(event=InstanceDeleted(), instance=instance.id),))


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreInstance:
    """Bring back a deleted instance, perhaps under another name."""

    name: str
    """Its name, of several the last one, or its data UUID."""

    new: str = ""
    passcode: str = ""

    def decide(self, context: Context) -> Decision:
        """Return the event."""
        check_there(context)
        instance = deleted_instance(context.repo, self.name)
        if instance.purged:
            raise InvalidRequest(f'data "{self.name}" was purged: it cannot come back')
        check_passcode(context, self.passcode)
        name = self.new or instance.name
        check_name(context.repo, name)
        return Decision((Outcome(event=InstanceRestored(name=name), instance=instance.id),))


@dataclass(frozen=True, slots=True, kw_only=True)
class PurgeInstance:
    """Drop some rows of a deleted instance, for good; the answer is `more` while there are others."""

    instance: int
    passcode: str = ""
    rows: int = ROWS_PER_PURGE

    def decide(self, context: Context) -> Decision:
        """Return the event, or none if nothing is left."""
        instance = context.repo.instances.get(self.instance)
        if instance is None:
            raise InvalidRequest(f"there is no data instance number {self.instance}")
        if not (instance.deleted or context.repo.document.deleted):
            raise InvalidRequest(f'data "{instance.name}" must be deleted before it is purged')
        check_passcode(context, self.passcode)
        if not has_rows(context, instance.id) and instance.purged:
            return Decision(())
        event = InstancePurged(rows=self.rows)
        return Decision((Outcome(event=event, instance=instance.id),), b"more")


def has_rows(context: Context, instance: int) -> bool:
    """Say whether the projections hold anything of an instance."""
    found = context.txn.seek(instance_key(instance, 0))
    return found is not None and found[0].startswith(instance.to_bytes(4, "big"))
