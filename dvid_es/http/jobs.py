"""Long jobs, as clients see them: /api/server/jobs.

Where a job is begun is the business of its datatype. The docstring of a handler is what /api/help shows.
"""

import asyncio
import contextlib
import re
from typing import Any

from sanic.response import HTTPResponse

from dvid_es.codecs import gojson
from dvid_es.errors import InvalidRequest
from dvid_es.http.datatype import Handler
from dvid_es.http.node import NodeRequest, json_response
from dvid_es.jobs import RUNNING, Job

WAIT_MAX_SECONDS = 60.0
_SECONDS = re.compile(r"[0-9]{1,4}(\.[0-9]{1,3})?\Z")


def job_json(job: Job) -> dict[str, Any]:
    """Return a job as clients see it."""
    stopping = job.state == RUNNING and job.stopping
    return {
        "id": job.id,
        "kind": job.kind,
        "state": "cancelling" if stopping else job.state,
        "done": job.done,
        "total": job.total,
        "error": job.error,
        "about": job.about,
        "result": job.result,
        "created": _time(job.created_ns),
        "started": _time(job.started_ns),
        "ended": _time(job.ended_ns),
    }


def _time(nanoseconds: int) -> str:
    return gojson.rfc3339(nanoseconds) if nanoseconds else ""


def accepted(job: Job) -> HTTPResponse:
    """Return the answer to a request that began a job."""
    answer = json_response(job_json(job), 202)
    answer.headers["Location"] = f"/api/server/jobs/{job.id}"
    return answer


async def get_jobs(request: NodeRequest) -> HTTPResponse:
    """GET api/server/jobs[/<id>]: all long jobs since the start of the server, or one of them.

    With wait=<seconds>, at most 60, the answer about one job comes when it is over, or after that time.
    """
    jobs = request.engine.jobs
    if not request.words:
        return json_response([job_json(job) for job in jobs.all()])
    job = jobs.get(_id(request))
    wait = request.args.get("wait")
    if wait and not job.is_over:
        if not _SECONDS.match(wait) or float(wait) > WAIT_MAX_SECONDS:
            raise InvalidRequest(f'wait "{wait}" is no number of seconds from 0 to 60')
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(job.ended)), float(wait))
    return json_response(job_json(job))


def delete_job(request: NodeRequest) -> HTTPResponse:
    """DELETE api/server/jobs/<id>: cancel a job. One that runs stops soon; one that is over stays."""
    return json_response(job_json(request.engine.jobs.cancel(_id(request))))


def _id(request: NodeRequest) -> str:
    words = [word for word in request.words if word]
    if len(words) != 1:
        raise InvalidRequest("name one job: /api/server/jobs/<id>")
    return words[0]


get_jobs.takes_words = delete_job.takes_words = True  # type: ignore[attr-defined]

JOB_ROUTES: dict[str, Handler] = {
    "GET api/server/jobs": get_jobs,
    "DELETE api/server/jobs": delete_job,
}
