"""Files of other programs as plain facts: networks, workflows, instants, and the rows of CSV files.

It imports nothing else of jaxcec: what follows from the facts, such as splits and what is drawn, is for `scenarios`.
"""

from jaxcec.readers.arrival_files import read_instants as read_instants
from jaxcec.readers.network_files import FileLink as FileLink
from jaxcec.readers.network_files import NetworkFile as NetworkFile
from jaxcec.readers.network_files import network_graph as network_graph
from jaxcec.readers.network_files import read_networks as read_networks
from jaxcec.readers.workflow_files import WorkflowFile as WorkflowFile
from jaxcec.readers.workflow_files import read_workflows as read_workflows
from jaxcec.readers.workflow_files import workflow_json as workflow_json
