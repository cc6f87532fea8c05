"""The steps of ``darkroom bootstrap``, in their order. It has nothing else."""

from darkroom.bootstrap import credentials, eks, gitops, identities, images, pins, restarts, webhook
from darkroom.bootstrap.steps import Context, Step


def steps(context: Context) -> list[Step]:
    """Everything that brings a cluster up. Where the repository is not on GitHub, others build the images."""
    builds: list[Step] = [images.GitHubRole(context), images.ImageBuilds(context)] if context.gitops.github else []
    return [
        pins.Pushed(context),
        identities.Boundaries(context),
        *identities.service_linked_roles(context),
        images.Repositories(context),
        *builds,
        eks.EksCluster(context),
        eks.NodeNetwork(context),
        eks.S3Endpoint(context),
        identities.provider(context),
        identities.crossplane(context),
        pins.Pins(context),
        credentials.Namespaces(context),
        credentials.ApiKeys(context),
        credentials.GrafanaPassword(context),
        credentials.RepositoryAccess(context),
        gitops.ArgoCd(context),
        gitops.Root(context),
        restarts.Identities(context),
        gitops.Synced(context),
        webhook.Webhooks(context),
    ]
