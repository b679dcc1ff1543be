"""Repositories, versions and instances as clients read them.

Source: MarshalJSON of repoT, dagT, nodeT in datastore/repo_local.go and of Data in
datastore/datainstance.go (janelia-flyem/dvid): fields in the order of its structs, maps by key.
"""

from collections.abc import Callable, Mapping
from typing import Any

from dvid_es.codecs.gojson import rfc3339_nano
from dvid_es.http.datatype import Datatype
from dvid_es.projections.catalog import Instance, Repo, next_mutation_id
from dvid_es.projections.txn import ReadTxn
from dvid_es.versions import Version, View

SAVED_AHEAD = 100
"""DVID saves the counter of mutation ids so far ahead; clients know both numbers."""

Document = dict[str, Any]

StoresOf = Callable[[Repo, Instance], tuple[str, str]]
"""Describes the stores that an instance is assigned to: its values, and its log."""


def repo_document(
    txn: ReadTxn, repo: Repo, datatypes: Mapping[str, Datatype], stores: StoresOf
) -> Document:
    """Return what `GET /api/repo/<uuid>/info` says; instances are shown at the leaf of master."""
    document = repo.document
    leaf = repo.graph.leaf("") or repo.graph.root
    views = {True: txn.view(leaf.id), False: txn.view(1)}
    next_id = next_mutation_id(txn)
    return {
        "Root": document.root,
        "Alias": document.alias,
        "Description": document.description,
        "Log": document.log,
        "Properties": document.properties,
        "DataInstances": {
            name: instance_document(
                txn, repo, instance, views[instance.versioned], datatypes, stores
            )
            for name, instance in sorted(repo.names.items(), key=lambda item: item[0].encode())
        },
        "DAG": {"Root": document.root, "Nodes": _nodes(repo)},
        "MutationID": next_id,
        "SavedMutationID": next_id + SAVED_AHEAD,
        "Created": rfc3339_nano(document.created_ns),
        "Updated": rfc3339_nano(document.updated_ns),
    }


def _nodes(repo: Repo) -> Document:
    children = repo.graph.children
    versions = sorted(repo.graph.by_id.values(), key=lambda version: version.uuid.encode())
    return {version.uuid: _node(version, children[version.id]) for version in versions}


def _node(version: Version, children: tuple[int, ...]) -> Document:
    return {
        "Branch": version.branch,
        "Note": version.note,
        "Log": version.log,
        "UUID": version.uuid,
        "VersionID": version.id,
        "Locked": version.locked,
        "Parents": version.parents,
        "Children": children,
        "Created": rfc3339_nano(version.created_ns),
        "Updated": rfc3339_nano(version.updated_ns),
    }


def instance_document(
    txn: ReadTxn,
    repo: Repo,
    instance: Instance,
    view: View,
    datatypes: Mapping[str, Datatype],
    stores: StoresOf,
) -> Document:
    """Return what `GET <instance>/info` says, at a version.

    Args:
        txn: the state to read.
        repo: the repository in that state.
        instance: one of its instances.
        view: what the datatype's own part is read through.
        datatypes: all datatypes, by name.
        stores: how the stores of an instance are described.
    """
    datatype = datatypes[instance.typename]
    values, log = stores(repo, instance)
    syncs = (repo.instances.get(number) for number in instance.syncs)
    document: Document = {
        "Base": {
            "TypeName": instance.typename,
            "TypeURL": datatype.url,
            "TypeVersion": datatype.version,
            "DataUUID": instance.data_uuid,
            "Name": instance.name,
            "RepoUUID": repo.graph.by_id[instance.version].uuid,
            "Compression": instance.compression,
            "Checksum": instance.checksum,
            "Syncs": [
                "undefined" if partner is None or partner.deleted else partner.name
                for partner in syncs
            ],
            "Versioned": instance.versioned,
            "KVStore": values,
            "LogStore": log,
            "Tags": sorted_by_bytes(instance.tags),
        },
        "Extended": datatype.extended(txn, instance, view),
    }
    extents = datatype.extents(txn, instance, view)
    if extents is not None:
        document["Extents"] = extents
    return document


def sorted_by_bytes(values: dict[str, str] | None) -> dict[str, str] | None:
    """Return a map in the order in which Go writes it."""
    if values is None:
        return None
    return dict(sorted(values.items(), key=lambda item: item[0].encode()))
