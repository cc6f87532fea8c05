"""What clients do works on what the cluster made: the tests of the flow, on resources that Crossplane composed."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from darkroom.cluster_files import ClusterFiles
from darkroom.local.processes import Child
from darkroom.local.stack import Options, Stack
from tests.e2e.world import ACCOUNT, REGION, World
from tests.flow import conftest
from tests.flow.test_guidance_clients import (  # noqa: F401 - pytest runs what is named in this module
    test_a_message_that_a_client_publishes_to_the_topic_itself_is_run,
    test_a_v1alpha1_request_finds_its_runtime_by_its_checkpoint,
    test_a_v1alpha2_client_may_call_with_slashes_around_the_version,
    test_a_v1alpha2_task_sent_twice_with_one_id_gives_two_pictures_and_two_notifications,
)
from tests.flow.test_jobs import (  # noqa: F401
    interrupted,
    test_a_body_of_300_kilobytes_goes_through_by_claim_check,
    test_a_job_tells_where_it_stands_and_where_its_pictures_are,
    test_a_job_whose_lambda_was_killed_before_it_published_runs_when_the_client_submits_it_again,
    test_an_id_that_stands_for_another_job_is_refused,
    test_fifty_clients_that_submit_the_same_job_at_once_make_one_job,
    test_two_hundred_prompts_at_once_give_two_hundred_pictures_and_none_twice,
)

files_of_the_flow = conftest.files
flow = conftest.flow


@pytest.fixture(scope="session")
def files(files_of_the_flow: ClusterFiles) -> ClusterFiles:
    """The local cluster, in the account and region of the tests."""
    place = {"name": "flow", "account": ACCOUNT, "region": REGION}
    return replace(files_of_the_flow, cluster=files_of_the_flow.cluster.model_copy(update=place))


@pytest.fixture(scope="session")
def stack(
    whole_world: World, emulator: Child, files: ClusterFiles, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stack]:
    """A stack whose resources the cluster makes."""
    options = Options(
        logs=tmp_path_factory.mktemp("logs"),
        seconds_per_step=0,
        without_agent=frozenset({"closed", conftest.INPUTS_RUNTIME}),
        control_plane=whole_world.bring_up,
        emulator=emulator,
    )
    with Stack(files, options) as stack:
        yield stack
