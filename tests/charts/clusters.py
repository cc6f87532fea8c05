"""What the tests of several charts say of a cluster."""

#: A file system for the models: ``models.efs``.
FILE_SYSTEM = {
    "vpcId": "vpc-0123456789abcdef0",
    "subnetIds": ["subnet-0123456789abcdef0"],
    "nodeSecurityGroupId": "sg-0123456789abcdef0",
}
