import dvid_es.repos.events as repo_events
from dvid_es.events import BY_CLASS, Header, decode, encode_event, encode_header
from dvid_es.ids import PackRef

# Names and numbers are for ever: a line of this table is never changed, only added.
PERMANENT = {
    1: "repo.created",
    2: "repo.described",
    3: "repo.log-appended",
    4: "repo.deleted",
    5: "repo.restored",
    6: "repo.purged",
    10: "version.created",
    11: "version.note-set",
    12: "version.log-appended",
    13: "version.committed",
    20: "instance.created",
    21: "instance.tags-set",
    22: "instance.syncs-set",
    23: "instance.renamed",
    24: "instance.deleted",
    25: "instance.restored",
    26: "instance.purged",
    30: "blob.stored",
}

SAMPLES = [
    repo_events.RepoCreated(root="a" * 32, alias="é", description="d", passcode="p"),
    repo_events.RepoDescribed(alias=None, description=""),
    repo_events.RepoLogAppended(lines=("a", "")),
    repo_events.RepoDeleted(),
    repo_events.RepoRestored(),
    repo_events.RepoPurged(),
    repo_events.VersionCreated(id=2, uuid="b", parents=(1,), note="n", lines=("l",), locked=True),
    repo_events.VersionNoteSet(note="n"),
    repo_events.VersionLogAppended(lines=("a",)),
    repo_events.VersionCommitted(note=None, lines=()),
    repo_events.InstanceCreated(
        id=1,
        name="n",
        typename="t",
        data_uuid="d",
        compression="c",
        checksum="s",
        tags={"a": "b"},
        settings={"BlockSize": [64, 64, 64], "VoxelSize": [8.5, 8, 8], "MinPoint": None},
    ),
    repo_events.InstanceTagsSet(tags={}),
    repo_events.InstanceSyncsSet(syncs=(1, 2)),
    repo_events.InstanceRenamed(name="n"),
    repo_events.InstanceDeleted(),
    repo_events.InstanceRestored(name="n"),
    repo_events.InstancePurged(rows=5),
    repo_events.BlobStored(hash=bytes(16), value=b"x"),
    repo_events.BlobStored(hash=bytes(16), value=PackRef(1, 2, 3, 4, bytes(16))),
]


def test_names_and_numbers_are_permanent():
    found = {
        known.number: known.name
        for kind, known in BY_CLASS.items()
        if kind.__module__ == repo_events.__name__
    }
    assert found == PERMANENT


def test_every_event_is_read_back_from_its_bytes():
    assert {type(sample) for sample in SAMPLES} == {
        kind for kind in BY_CLASS if kind.__module__ == repo_events.__name__
    }
    for offset, sample in enumerate(SAMPLES):
        number, schema, facts = encode_event(sample)
        header = Header(version=1, instance=2, user="u")
        record = decode(offset, number, schema, 7, encode_header(header), facts)
        assert (record.event, record.header, record.offset) == (sample, header, offset)
