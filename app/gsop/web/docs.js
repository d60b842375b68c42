// The calls, by Swagger UI from our own files.
SwaggerUIBundle({ url: "openapi.json", dom_id: "#calls", deepLinking: true, validatorUrl: null });
