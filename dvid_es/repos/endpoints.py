"""The tables of what repositories, versions and all data instances answer."""

from collections.abc import Mapping

from dvid_es.http.datatype import Handler
from dvid_es.repos import endpoints_events as events
from dvid_es.repos import endpoints_instances as instances
from dvid_es.repos import endpoints_nodes as nodes
from dvid_es.repos import endpoints_repos as repos
from dvid_es.repos import endpoints_sql as sql

REPOS_ROUTES: Mapping[str, Handler] = {
    "POST api/repos": repos.post_repos,
    "GET api/repos/info": repos.get_repos_info,
    "GET api/repos/deleted": repos.get_repos_deleted,
    "POST api/repos/undelete": repos.post_repos_undelete,
    "POST api/repos/purge": repos.post_repos_purge,
    "GET api/server/blobstore": instances.get_server_blobstore,
}
"""Below the server."""

REPO_ROUTES: Mapping[str, Handler] = {
    "HEAD ": repos.head_repo,
    "DELETE ": repos.delete_repo,
    "DELETE *": repos.delete_instance,
    "GET info": repos.get_info,
    "POST info": repos.post_info,
    "GET log": repos.get_log,
    "POST log": repos.post_log,
    "POST instance": repos.post_instance,
    "GET branch-versions": repos.get_branch_versions,
    "GET deleted": repos.get_deleted,
    "POST rename": repos.post_rename,
    "POST undelete": repos.post_undelete,
    "POST purge": repos.post_purge,
    "GET events": events.get_events,
    "GET cursors": events.get_cursors,
    "POST cursors": events.post_cursor,
    "DELETE cursors": events.delete_cursor,
    "GET sql": sql.get_sql,
    "POST sql": sql.post_sql,
    "POST merge": nodes.post_merge,
    "POST resolve": nodes.post_resolve,
    "GET conflicts": nodes.get_conflicts,
}
"""Below /api/repo/<uuid>/; "DELETE *" takes the name of an instance."""

NODE_ROUTES: Mapping[str, Handler] = {
    "GET note": nodes.get_note,
    "POST note": nodes.post_note,
    "GET log": nodes.get_log,
    "POST log": nodes.post_log,
    "GET status": nodes.get_status,
    "GET commit": nodes.get_status,
    "POST commit": nodes.post_commit,
    "POST newversion": nodes.post_newversion,
    "POST branch": nodes.post_branch,
    "POST tag": nodes.post_tag,
}
"""Below /api/node/<uuid>/."""

COMMON_ROUTES: Mapping[str, Handler] = {
    "GET info": instances.get_info,
    "* info": instances.get_info,
    "GET help": instances.get_help,
    "* help": instances.get_help,
    "GET tags": instances.get_tags,
    "POST tags": instances.post_tags,
    "* tags": instances.get_tags,
    "POST sync": instances.post_sync,
    "POST blobstore": instances.post_blobstore,
    "GET blobstore": instances.get_blobstore,
}
"""Below /api/node/<uuid>/<instance>/, for every datatype."""
