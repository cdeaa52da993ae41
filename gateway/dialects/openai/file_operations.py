"""What the dialect serves of files, for the OpenAPI document."""

from gateway.dialects.openai import file_schema as schema
from gateway.openapi import Operation

FILE_OPERATIONS = (
    Operation("post", "/v1/files", "Uploads a file.", schema.FileObject, form=schema.FileForm),
    Operation("get", "/v1/files", "Lists files.", schema.FileList, query=schema.UploadedFilesQuery),
    Operation("get", "/v1/files/{file_id}", "Gets what is known of a file.", schema.FileObject),
    Operation("delete", "/v1/files/{file_id}", "Deletes a file.", schema.FileDeleted),
    Operation("get", "/v1/files/{file_id}/content", "Gets the content of a file.", bytes),
)
"""In the order of the routes."""
