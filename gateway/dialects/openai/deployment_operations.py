"""What the dialect serves of deployments, for the OpenAPI document."""

from gateway.dialects.openai import deployment_schema as schema
from gateway.openapi import Operation

DEPLOYMENT_OPERATIONS = (
    Operation("get", "/v1/deployments", "Lists deployments.", schema.DeploymentList),
    Operation(
        "get",
        "/v1/deployments/{deployment_id}",
        "Gets a deployment, with what it takes and gives.",
        schema.Deployment,
    ),
    Operation(
        "post",
        "/v1/predict",
        "Runs a tensor model once.",
        schema.Prediction,
        body=schema.PredictBody,
    ),
)
